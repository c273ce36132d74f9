//! JSON Lines: one value in, one value out, in the same order. A line that cannot be read has an answer too.

use std::io::{self, BufRead, ErrorKind, Write};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Answers each line of standard input on standard output. `answer` gets what could be read of a line; a line that is none gets
/// `unreadable`, is named on standard error, and makes this false.
pub(crate) fn answer_each<T: DeserializeOwned>(
    mut answer: impl FnMut(T) -> String,
    unreadable: impl Fn() -> String,
) -> io::Result<bool> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
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
        let answered = match serde_json::from_slice(&line) {
            Ok(value) => answer(value),
            Err(error) => {
                all_read = false;
                // The error's own text may quote the line, and the line holds a token.
                let (line, column) = (error.line(), error.column());
                eprintln!(
                    "line {number}: not as expected at {line}:{column} ({:?})",
                    error.classify()
                );
                unreadable()
            }
        };
        match writeln!(output, "{answered}") {
            // Nobody reads any more.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            outcome => outcome?,
        }
    }
    Ok(all_read)
}

/// The reason of a line that could not be read.
pub(crate) const MALFORMED_LINE: &str = "malformed_line";

/// A line's id as it came, whatever it is.
pub(crate) type Id = Option<Value>;
