//! A short run of a scenario on real processes, as `aqueduct-chaos run` does it: needs no root.

use aqueduct_chaos::bed::binary;
use aqueduct_chaos::scenarios::{self, Options, Refusal};
use aqueduct_chaos::verdict::Word;

/// A second run in its directory is refused, and does not disturb the first, which is then told to
/// end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_is_unknown_and_leaves_no_bed() {
    let dir = tempfile::tempdir().unwrap();
    let binary = tokio::task::spawn_blocking(binary::find_or_build).await.unwrap().unwrap();
    let options = Options { seconds: Some(8), binary: Some(binary), ..Options::new(3, dir.path()) };
    let scenario = scenarios::find("leader-kills").unwrap();
    let stale = dir.path().join("bed/of-an-earlier-run");
    std::fs::create_dir_all(&stale).unwrap();
    let interrupted = async {
        assert!(!stale.exists(), "its data would be that of this run's nodes");
        let second = scenarios::run(scenario, &options, std::future::pending()).await;
        let refusal = second.unwrap_err().downcast::<Refusal>().unwrap();
        assert!(matches!(refusal, Refusal::InUse(_)), "{refusal}");
        "a test"
    };
    let verdict = scenarios::run(scenario, &options, interrupted).await.unwrap();
    assert_eq!(verdict.verdict, Word::Unknown);
    assert_eq!(verdict.doubts(), ["interrupted by a test"]);
    assert!(!dir.path().join("bed").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_die_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let binary = tokio::task::spawn_blocking(binary::find_or_build).await.unwrap().unwrap();
    let options = Options { seconds: Some(8), binary: Some(binary), ..Options::new(3, dir.path()) };
    let scenario = scenarios::find("leader-kills").unwrap();
    let verdict = scenarios::run(scenario, &options, std::future::pending()).await.unwrap();
    assert_eq!(verdict.verdict, Word::Pass, "{verdict:#?}");
    assert_eq!(verdict.lost, 0);
    assert!(verdict.acked > 200, "{verdict:#?}");
    assert!(verdict.coverage["fault:kill(leader)"] >= 2, "{verdict:#?}");
    assert!(!verdict.failover_ms.is_empty(), "{verdict:#?}");

    // The history alone is enough for the same verdict, and a lost event would be seen.
    assert_eq!(scenarios::judge_again(dir.path()).unwrap(), verdict);
    let path = dir.path().join("history.jsonl");
    let history = std::fs::read_to_string(&path).unwrap();
    let unread = |line: &&str| {
        !(line.contains(r#""what":"delivered","consumer":"worker""#)
            && line.contains(r#""seq":40,"#))
    };
    let forged: String = history.lines().filter(unread).flat_map(|line| [line, "\n"]).collect();
    assert!(forged.len() < history.len());
    std::fs::write(&path, forged).unwrap();
    let forged = scenarios::judge_again(dir.path()).unwrap();
    assert_eq!((forged.verdict, forged.lost), (Word::Fail, 1), "{forged:#?}");
}
