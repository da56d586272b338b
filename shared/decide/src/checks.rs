//! The names of the checks, as they are recorded, each beside its Japanese: a name without one does not compile.

macro_rules! names {
    ($($stage:ident { $($name:ident: $english:literal, $japanese:literal;)* })*) => {
        $(pub(crate) mod $stage {
            $(pub(crate) const $name: &str = $english;)*
        })*
        const ALL: &[(&str, &str)] = &[$($(($english, $japanese),)*)*];
    };
}

names! {
    verify {
        INSTANCE_ONLINE: "instance online", "インスタンスが稼働を続けている";
        TERMINATION_PROTECTION: "termination protection on", "終了保護が有効";
        STOP_PROTECTION: "stop protection on", "停止保護が有効";
        SHUTDOWN: "shutdown from inside stops, not terminates", "OS からのシャットダウンが終了ではなく停止になる";
        VOLUMES_KEPT: "volumes survive a termination", "インスタンスが終了してもボリュームが残る";
        TAGGED: "instance, volumes and interfaces tagged", "インスタンス、ボリューム、ネットワークインターフェイスのタグ付け";
        SCALING: "out of the Auto Scaling group", "Auto Scaling グループから切り離し済み";
        TARGETS: "out of every target group", "すべてのターゲットグループから登録解除済み";
        CLASSIC: "out of every classic load balancer", "すべての Classic Load Balancer から登録解除済み";
        INTERFACES: "every interface in the quarantine group only", "すべてのネットワークインターフェイスが隔離用グループのみに所属";
        NO_INBOUND: "quarantine group has no inbound", "隔離用グループにインバウンドルールがない";
        OUTBOUND: "quarantine group lets out only what the policy allows", "隔離用グループのアウトバウンドがポリシーの許可範囲のみ";
        COMMAND: "Run Command recorded", "Run Command の実行が記録されている";
        VOLATILE: "volatile data in the evidence bucket", "揮発性データが証拠バケットにある";
        MEMORY: "memory in the evidence bucket", "メモリイメージが証拠バケットにある";
        SNAPSHOTS: "snapshots encrypted and tagged", "スナップショットが暗号化されタグ付けされている";
        COMPLETE: "snapshots complete", "スナップショットが完了している";
        LOCKED: "snapshots locked", "スナップショットがロックされている";
        COPIES: "snapshots copied elsewhere", "スナップショットが別の場所にコピーされている";
        SHARED: "snapshots shared with nobody", "スナップショットが誰とも共有されていない";
        BUCKET: "evidence bucket versioned and Object-Locked", "証拠バケットのバージョニングとオブジェクトロックが有効";
        ENCRYPTED: "evidence bucket encrypts with a key of its own", "証拠バケットが専用の鍵で暗号化している";
        CLOSED: "evidence bucket closed to the public", "証拠バケットがパブリックアクセスを遮断している";
        TLS: "evidence bucket takes TLS only", "証拠バケットが TLS のみを受け付ける";
        REPLICATED: "evidence bucket replicated", "証拠バケットがレプリケートされている";
    }
    release {
        GROUPS: "security groups of every interface as before", "すべてのネットワークインターフェイスのセキュリティグループが元どおり";
        SCALING: "in the Auto Scaling group as before", "Auto Scaling グループへの所属が元どおり";
        TARGETS: "in the target groups as before", "ターゲットグループへの登録が元どおり";
        CLASSIC: "behind the classic load balancers as before", "Classic Load Balancer への登録が元どおり";
        PROTECTION: "protections as before", "保護設定が元どおり";
        FLOW_LOGS: "flow logs as before", "フローログの設定が元どおり";
        VOLUMES: "volumes go or stay with the instance as before", "終了時のボリュームの扱いが元どおり";
        EVIDENCE: "evidence kept", "証拠が保持されている";
    }
    scope {
        FLOWS: "flow logs show with whom the instance talks", "フローログでインスタンスの通信相手がわかる";
        VERSIONS: "buckets that the role may destroy keep versions", "ロールが破壊できるバケットでバージョニングが有効";
        MFA: "versions in those buckets need a second factor to be deleted", "それらのバケットでのバージョン削除に多要素認証が必要";
        ANALYZER: "Access Analyzer has nothing against the role", "Access Analyzer にロールに関する検出結果がない";
    }
}

/// The Japanese of a recorded name; the name itself where another version of Stasis recorded it.
pub(crate) fn in_japanese(name: &str) -> &str {
    ALL.iter().find(|(english, _)| *english == name).map_or(name, |(_, japanese)| japanese)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_checks_have_one_name() {
        for (at, (english, japanese)) in ALL.iter().enumerate() {
            let again = ALL.iter().skip(at + 1).any(|(name, words)| name == english || words == japanese);
            assert!(!again, "{english}");
        }
        assert_eq!(in_japanese("of another version"), "of another version");
    }
}
