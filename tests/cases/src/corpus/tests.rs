use std::{collections::HashSet, fmt::Write as _};

use super::*;

/// What people read about it.
const DOCUMENT: &str = include_str!("../../../../docs/conformance.md");

#[test]
fn every_case_of_the_files_is_a_row_of_its_own() {
    let rows = rows();
    for set in Set::ALL {
        for kind in set.kinds() {
            let found = rows
                .iter()
                .filter(|row| (row.set, row.kind()) == (set, *kind))
                .count();
            assert_eq!(found, set.cases(), "{set} as {kind}");
        }
    }
    let ids: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), rows.len());
}

#[test]
fn every_policy_row_is_decided_and_every_decision_is_about_one() {
    let rows = rows();
    let open: Vec<&str> = rows
        .iter()
        .filter(|row| row.label == Label::Policy)
        .map(|row| row.id.as_str())
        .collect();
    let decided: Vec<&str> = DECISIONS.iter().map(|decision| decision.row).collect();
    assert_eq!(open, decided);
}

#[test]
fn a_member_that_is_not_known_is_refused() {
    let text = r#"{"id":"x","class":"c","jwt":"a.b.c","expect":"reject","clock":1}"#;
    let read = std::panic::catch_unwind(|| lines::<Value>(text, "a file").len());
    assert_eq!(read.ok(), Some(1), "as JSON it is good");
    let read = std::panic::catch_unwind(|| attack::read(text).len());
    assert!(read.is_err());
}

#[test]
fn a_request_may_be_given_by_its_raw_fields() {
    let text = concat!(
        r#"{"id":"a","class":"c","authorization":"bearer  x","expect":"reject","no_egress":true}"#,
        "\n",
        r#"{"id":"b","class":"c","headers":[["authorization","Bearer x"],["authorization","Bearer y"]],"expect":"reject"}"#,
    );
    let fields: Vec<_> = attack::read(text)
        .into_iter()
        .map(|row| match row.check {
            Check::Request(request) => request.header_fields(),
            _ => panic!("no request"),
        })
        .collect();
    let field = |value: &str| ("authorization".to_owned(), value.as_bytes().to_vec());
    assert_eq!(
        fields,
        [
            vec![field("bearer  x")],
            vec![field("Bearer x"), field("Bearer y")]
        ]
    );
}

#[test]
fn a_token_that_passes_must_be_told_to_the_backend_by_its_subject() {
    for row in rows() {
        let Check::Request(request) = &row.check else {
            continue;
        };
        if row.verdict() == Verdict::Accept && !request.absent.iter().any(|name| name == "x-jwt-sub") {
            assert_eq!(
                request.upstream,
                [("x-jwt-sub".to_owned(), "sub-1".to_owned())],
                "{}",
                row.id
            );
        }
    }
}

#[test]
fn the_document_has_the_number_of_rows_of_each_set_and_verdict() {
    let mut table = String::from(
        "| set | as | rows | accept | reject | of them by policy |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let rows = rows();
    for set in Set::ALL {
        for kind in set.kinds() {
            let these: Vec<&Row> = rows
                .iter()
                .filter(|row| (row.set, row.kind()) == (set, *kind))
                .collect();
            let accepts = these
                .iter()
                .filter(|row| row.verdict() == Verdict::Accept)
                .count();
            let by_policy = these.iter().filter(|row| row.label == Label::Policy).count();
            let (all, rejects) = (these.len(), these.len() - accepts);
            writeln!(
                table,
                "| `{set}` | {kind} | {all} | {accepts} | {rejects} | {by_policy} |"
            )
            .unwrap();
        }
    }
    assert!(DOCUMENT.contains(&table), "docs/conformance.md lacks:\n\n{table}");
    let all = format!("{} rows", rows.len());
    assert!(DOCUMENT.contains(&all), "docs/conformance.md lacks: {all}");
}

#[test]
fn the_document_has_every_decision_with_its_reason() {
    let mut table = String::from("| row | decision | why |\n| --- | --- | --- |\n");
    for decision in &DECISIONS {
        let outcome = match decision.reason {
            Some(reason) => format!("{}, `{reason}`", decision.verdict),
            None => decision.verdict.to_string(),
        };
        writeln!(table, "| `{}` | {outcome} | {} |", decision.row, decision.why).unwrap();
    }
    assert!(DOCUMENT.contains(&table), "docs/conformance.md lacks:\n\n{table}");
}
