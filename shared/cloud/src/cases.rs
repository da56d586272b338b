//! A case as it stands: as it was opened, and as the newest run that took it over works on it.

use crate::{Cloud, CloudError};
use futures::future::{join, try_join_all};
use stasis_model::case::{Case, Takeover, prefix, takeovers};
use stasis_model::ids::CaseId;
use stasis_model::stage::{Stage, StageReport};
use std::collections::{BTreeMap, BTreeSet};

impl Cloud {
    /// A case as it stands; none where there is none of this id.
    ///
    /// # Errors
    /// Where the case file cannot be read.
    pub async fn case(&self, id: &CaseId) -> Result<Option<Case>, CloudError> {
        let key = format!("{}case.json", prefix(id));
        let (case, takeover) = join(self.fetch_json::<Case>(&key), self.newest_takeover(id)).await;
        let Some(case) = case? else { return Ok(None) };
        Ok(Some(match takeover? {
            Some(takeover) => case.taken_on(takeover),
            None => case,
        }))
    }

    /// The newest takeover of a case; none where the run that opened it works on it.
    ///
    /// # Errors
    /// Where the case file cannot be read.
    pub async fn newest_takeover(&self, id: &CaseId) -> Result<Option<Takeover>, CloudError> {
        let folder = takeovers(id);
        let listed = self.list(&folder).await?;
        let newest = listed.iter().filter_map(|file| number(file.key.strip_prefix(&folder)?)).max();
        match newest {
            Some(number) => self.fetch_json(&format!("{folder}{number}.json")).await,
            None => Ok(None),
        }
    }

    /// A report of a stage by its number; none where there is none.
    ///
    /// # Errors
    /// Where the case file cannot be read.
    pub async fn stage_report(
        &self,
        id: &CaseId,
        stage: Stage,
        attempt: u32,
    ) -> Result<Option<StageReport>, CloudError> {
        self.fetch_json(&format!("{}stages/{stage}/{attempt}.json", prefix(id))).await
    }

    /// The executions of all runs that have worked on a case.
    ///
    /// # Errors
    /// Where the case file cannot be read.
    pub async fn executions_of(&self, case: &Case) -> Result<BTreeSet<String>, CloudError> {
        let numbers = 1..=case.takeover();
        let folder = takeovers(&case.case_id);
        let read = numbers.map(async |number| self.fetch_json::<Takeover>(&format!("{folder}{number}.json")).await);
        let mut executions: BTreeSet<String> = case.execution.iter().cloned().collect();
        for takeover in try_join_all(read).await?.into_iter().flatten() {
            executions.extend(takeover.taken_over.from);
            executions.insert(takeover.execution);
        }
        Ok(executions)
    }

    /// The newest report of each of these stages, where there is one.
    ///
    /// # Errors
    /// Where the case file cannot be read.
    pub async fn newest_reports(&self, id: &CaseId, stages: &[Stage]) -> Result<Vec<StageReport>, CloudError> {
        let folder = format!("{}stages/", prefix(id));
        let mut newest: BTreeMap<String, u32> = BTreeMap::new();
        for file in self.list(&folder).await? {
            let Some((stage, name)) = file.key.strip_prefix(&folder).and_then(|rest| rest.split_once('/')) else {
                continue;
            };
            if let Some(number) = number(name).filter(|_| stages.iter().any(|known| known.name() == stage)) {
                let known = newest.entry(stage.to_owned()).or_default();
                *known = number.max(*known);
            }
        }
        let keys = newest.iter().map(|(stage, number)| format!("{folder}{stage}/{number}.json"));
        let read = keys.map(async |key| self.fetch_json(&key).await);
        Ok(try_join_all(read).await?.into_iter().flatten().collect())
    }
}

fn number(name: &str) -> Option<u32> {
    name.strip_suffix(".json")?.parse().ok()
}
