//! Access logs: JSON, one value per line.

use std::path::Path;

use serde_json::Value;

use super::StackError;

/// Whether a line is the filter's own event. Envoy's lines (see `bridge.yaml`) say what they are in `event`.
pub(super) fn is_audit_event(line: &Value) -> bool {
    line.is_object() && line.get("event").is_none()
}

/// The complete lines of a log that may be written to at this moment; none if it does not exist yet. A line
/// that is not JSON comes as a string: it must not go unseen.
pub(super) fn lines(path: &Path) -> Result<Vec<Value>, StackError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StackError::io(format!("reading {}", path.display()), source)),
    };
    let complete = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..complete]
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty());
    Ok(lines
        .map(|line| {
            serde_json::from_slice(line)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(line).into_owned()))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_complete_lines_count_and_none_goes_unseen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "{\"a\":1}\n\nnot json \n{\"event\":\"x\"}\n{\"half\":",
        )
        .unwrap();
        let lines = lines(file.path()).unwrap();
        assert_eq!(
            lines,
            [json!({"a": 1}), json!("not json "), json!({"event": "x"})]
        );
        assert_eq!(
            lines.iter().map(is_audit_event).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert!(super::lines(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
