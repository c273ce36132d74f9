//! JSON Lines: one value in, one value out, in the same order. A line that cannot be read has an answer too.

use std::{
    fmt,
    io::{self, BufRead, ErrorKind, Write},
};

use serde::{de::DeserializeOwned, Serialize};
use serde_json::value::RawValue;

/// The reason of a line that could not be read.
pub(crate) const MALFORMED_LINE: &str = "malformed_line";

/// A line's id as it came, whatever it is.
pub(crate) type Id = Option<Box<RawValue>>;

/// Reads one JSON object as strictly as the filter reads: a name that stands twice in it, at any depth, is an error, which
/// says where and never quotes.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let place = |error: serde_json::Error| match error.line() {
        0 => format!("not as expected ({:?})", error.classify()),
        line => format!(
            "not as expected at {line}:{} ({:?})",
            error.column(),
            error.classify()
        ),
    };
    let value = isthmus_engine::parse_json(text).map_err(place)?;
    if !value.is_object() {
        return Err("not an object".to_owned());
    }
    serde_json::from_slice(text).map_err(place)
}

/// Answers each line of standard input on standard output. `answer` gets what could be read of a line; a line that is none gets
/// `unreadable`, is named on standard error, and makes this false.
pub(crate) fn answer_each<T: DeserializeOwned>(
    mut answer: impl FnMut(T) -> String,
    unreadable: impl Fn() -> String,
) -> io::Result<bool> {
    let mut input = io::stdin().lock();
    let mut all_read = true;
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let answered = match parse(&line) {
            Ok(value) => answer(value),
            Err(problem) => {
                all_read = false;
                eprintln!("line {number}: {problem}");
                unreadable()
            }
        };
        if !write_out(answered)? {
            break;
        }
    }
    Ok(all_read)
}

/// Writes a line to standard output. False if nobody reads any more, which is no failure.
pub(crate) fn write_out(line: impl fmt::Display) -> io::Result<bool> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// One line of JSON, its members in the order of the type's fields.
pub(crate) fn to_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
