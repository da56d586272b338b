//! The picture of the run: when each stage ran and how it ended, and when the instance was cut off. The scale is logarithmic,
//! because what matters first takes seconds and what comes after may take hours.

use super::words::{self, Words};
use super::{Material, Since};
use maud::{Markup, html};
use stasis_model::Timestamp;
use stasis_model::case::Language;
use stasis_model::stage::{Stage, StageStatus};

/// Where the numbers end, in the picture's own units: before the bars, so that a narrow screen shows them first.
const TOOK: f64 = 205.0;
const ENDED: f64 = 305.0;
/// Where the status begins.
const STATUS: f64 = 322.0;
/// Where the bars begin and end.
const BARS: (f64, f64) = (430.0, 870.0);
/// How wide the picture is.
const WIDTH: f64 = 890.0;
/// The words of a moment go to the right of its line up to here, and to the left of it from here on.
const TURN: f64 = 580.0;
/// Height of a line.
const LINE: usize = 26;
/// The least distance of two marks of the scale.
const APART: f64 = 52.0;
/// Marks of the scale, in seconds; as many as there is room for are drawn.
const MARKS: [u32; 15] = [0, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 21_600, 86_400, 604_800];

/// One stage of the picture.
struct Row {
    stage: Stage,
    status: StageStatus,
    /// Its first beginning and last end, in seconds since the case was opened; none where the function never answered.
    ran: Option<(f64, f64)>,
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to - from).as_seconds_f64()
}

fn rows(material: &Material<'_>) -> Vec<Row> {
    let opened = material.case.opened_at;
    let row = |stage: Stage| {
        let reports = || material.reports.iter().filter(move |r| r.stage == stage);
        let outcome = material.case.stages.get(&stage);
        let status = outcome.map(|o| o.status).or_else(|| material.latest(stage).map(|r| r.status))?;
        let begun = reports().map(|r| r.started_at).min();
        let ended = reports().map(|r| r.finished_at).max();
        // A clock of another host may be a little behind.
        let since = |at| seconds(opened, at).max(0.0);
        Some(Row {
            stage,
            status,
            ran: begun.zip(ended).map(|(begun, ended)| (since(begun), since(ended).max(since(begun)))),
        })
    };
    Stage::ALL.into_iter().filter_map(row).collect()
}

/// Where a time is, from 0 to 1 over the whole span.
fn place(at: f64, span: f64) -> f64 {
    (1.0 + at).ln() / (1.0 + span).ln()
}

fn x(at: f64, span: f64) -> f64 {
    BARS.0 + (BARS.1 - BARS.0) * place(at, span).clamp(0.0, 1.0)
}

fn class(status: StageStatus) -> &'static str {
    match status {
        StageStatus::Done | StageStatus::Skipped => "ok",
        StageStatus::Planned | StageStatus::Waiting => "open",
        StageStatus::Incomplete | StageStatus::Failed => "late",
    }
}

/// A moment that is marked by a line through all stages.
struct Moment {
    at: f64,
    words: String,
    class: &'static str,
}

fn moments(material: &Material<'_>, words: &Words, language: Language) -> Vec<Moment> {
    let since = |at| seconds(material.case.opened_at, at).max(0.0);
    let mut moments = Vec::new();
    let (allowed, by) = material.allowed_since();
    if by != Since::Opening {
        let at = since(allowed);
        let text = format!("{}: +{}", words::since(by, language), words::span(at, language));
        moments.push(Moment { at, words: text, class: "allowed" });
    }
    if let Some(at) = material.contained_at().map(since) {
        let text = words::fill_text(words.cut_off_at, &[&format!("+{}", words::span(at, language))]);
        moments.push(Moment { at, words: text, class: "cut" });
    }
    moments
}

fn marks(span: f64) -> Vec<u32> {
    let mut marks: Vec<u32> = Vec::new();
    for mark in MARKS {
        let at = x(f64::from(mark), span);
        let far = marks.last().is_none_or(|last| at - x(f64::from(*last), span) >= APART);
        if f64::from(mark) <= span && far {
            marks.push(mark);
        }
    }
    marks
}

/// The picture.
pub(super) fn timeline(material: &Material<'_>, words: &Words, language: Language) -> Markup {
    let rows = rows(material);
    let moments = moments(material, words, language);
    let ends = rows.iter().filter_map(|row| row.ran).map(|(_, ended)| ended);
    let span = ends.chain(moments.iter().map(|moment| moment.at)).fold(0.1, f64::max);
    // The names of the columns and each moment have a line of their own, so that no text is over another.
    let top = LINE * (moments.len() + 1);
    let bottom = top + rows.len() * LINE + 4;
    let at = |value: f64| format!("{value:.1}");
    html! {
        section {
            h2 id="timeline" { (words.timeline) }
            @if rows.is_empty() { p { (words.timeline_none) } }
            @else {
                div.scroll tabindex="0" { svg.timeline viewBox=(format!("0 0 {WIDTH} {}", bottom + 22)) role="img" aria-label=(words.timeline_picture) {
                    text.small x="0" y=(top - 8) { (words.stage) }
                    text.small.end x=(at(TOOK)) y=(top - 8) { (words.took) }
                    text.small.end x=(at(ENDED)) y=(top - 8) { (words.ended_at) }
                    text.small x=(at(STATUS)) y=(top - 8) { (words.status) }
                    @for mark in marks(span) {
                        @let place = at(x(f64::from(mark), span));
                        line.mark x1=(place) x2=(place) y1=(top) y2=(bottom) {}
                        text.small.middle x=(place) y=(bottom + 16) { (words::mark(mark, language)) }
                    }
                    @for (line, row) in rows.iter().enumerate() {
                        @let y = top + line * LINE;
                        text x="0" y=(y + 18) { (words::stage(row.stage, language)) }
                        @if let Some((begun, ended)) = row.ran {
                            rect class=(class(row.status)) x=(at(x(begun, span))) y=(y + 5) rx="2" height="16"
                                width=(at((x(ended, span) - x(begun, span)).max(3.0))) {}
                            text.end x=(at(TOOK)) y=(y + 18) { (words::span(ended - begun, language)) }
                            text.end x=(at(ENDED)) y=(y + 18) { "+" (words::span(ended, language)) }
                        }
                        text class=(class(row.status)) x=(at(STATUS)) y=(y + 18) { (words::stage_status(row.status, language)) }
                    }
                    @for (line, moment) in moments.iter().enumerate() {
                        @let place = x(moment.at, span);
                        @let y = LINE * line + 18;
                        line class=(format!("moment {}", moment.class)) x1=(at(place)) x2=(at(place)) y1=(y + 4) y2=(bottom) {}
                        @if place < TURN {
                            text class=(format!("moment {}", moment.class)) x=(at(place)) y=(y) { (moment.words) }
                        } @else {
                            text class=(format!("moment end {}", moment.class)) x=(at(place)) y=(y) { (moment.words) }
                        }
                    }
                } }
                p.small { (words.timeline_about) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_the_scale_are_within_it_and_apart() {
        for span in [0.1, 1.0, 3.0, 59.0, 600.0, 86_000.0, 3_000_000.0] {
            let marks = marks(span);
            assert_eq!(marks.first(), Some(&0), "{span}");
            assert!(marks.iter().all(|mark| f64::from(*mark) <= span), "{span}: {marks:?}");
            let places: Vec<f64> = marks.iter().map(|mark| x(f64::from(*mark), span)).collect();
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= APART), "{span}: {places:?}");
        }
    }

    #[test]
    fn what_comes_later_is_further_right_and_all_of_it_is_in_the_picture() {
        let places: Vec<f64> = [0.0, 0.3, 1.0, 60.0, 7_200.0].iter().map(|at| x(*at, 7_200.0)).collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
        assert_eq!((places.first(), places.last()), (Some(&BARS.0), Some(&BARS.1)));
    }
}
