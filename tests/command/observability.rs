//! docs/observability.md and the dashboard name what there is, all of it and nothing else.

use std::collections::BTreeSet;

use isthmus_engine::Reason;
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/observability.md");
const DASHBOARD: &str = include_str!("../../envoy/grafana.json");

#[test]
fn the_page_lists_every_reason_with_its_status() {
    let (_, section) = PAGE.split_once("## Reasons").expect("a section");
    let (section, _) = section.split_once("## Audit").expect("the next one");
    let rows: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        })
        .collect();
    let expected: Vec<(&str, String)> = Reason::ALL
        .iter()
        .map(|reason| (reason.code(), reason.status().to_string()))
        .collect();
    let expected: Vec<(&str, &str)> = expected
        .iter()
        .map(|(code, status)| (*code, status.as_str()))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_of_the_page() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = |text: &str| -> BTreeSet<String> {
        let words = text
            .split(|c| !is_word(c))
            .filter(|word| word.contains("isthmus_"));
        words.map(str::to_owned).collect()
    };
    let documented = words(PAGE);
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            asked.extend(words(expression));
            asked.extend(words(target["legendFormat"].as_str().expect("a legend")));
        }
    }
    assert!(
        asked.is_subset(&documented),
        "{:?}",
        asked.difference(&documented)
    );
    for metric in [
        "isthmus_decisions",
        "isthmus_key_fetches",
        "isthmus_key_age_seconds",
        "isthmus_token_cache",
    ] {
        assert!(asked.contains(metric), "no panel shows {metric}");
    }
}
