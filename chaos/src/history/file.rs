//! Histories as files: one [`Record`] per line, as JSON.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::Record;

/// Writes a history, one record per line.
pub struct Writer(BufWriter<File>);

impl Writer {
    /// A new history at `path`.
    pub fn create(path: &Path) -> io::Result<Writer> {
        Ok(Writer(BufWriter::with_capacity(1 << 20, File::create(path)?)))
    }

    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, record)?;
        self.0.write_all(b"\n")
    }

    /// Must be called at the end; errors of earlier writes show up here at the latest.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads a history; each line that is not a record is an error with its number. A last line that
/// was not written to its end, as a run leaves it that was cut short, is passed over; [`is_torn`]
/// tells.
pub fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Record>>> {
    let lines = BufReader::with_capacity(1 << 20, File::open(path)?).split(b'\n');
    let torn = is_torn(path)?;
    let mut lines = lines.enumerate().peekable();
    Ok(std::iter::from_fn(move || {
        let (number, line) = lines.next()?;
        if torn && lines.peek().is_none() {
            return None;
        }
        Some(line.and_then(|line| {
            serde_json::from_slice(&line).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {e}", number + 1))
            })
        }))
    }))
}

/// Whether the last line of a history was not written to its end.
pub fn is_torn(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Outcome, Place, Verdict, What};

    #[test]
    fn a_history_reads_as_written() {
        let records = [
            Record {
                at: 1,
                by: "supplier-1".into(),
                what: What::Published {
                    event: 7,
                    outcome: Outcome::Ok(Place { seq: 3, duplicate: false }),
                },
            },
            Record {
                at: 2,
                by: "worker/1".into(),
                what: What::Settled {
                    consumer: "worker".into(),
                    seqs: vec![1, 2],
                    verdict: Verdict::Ack,
                    outcome: Outcome::Ok(()),
                },
            },
            Record { at: 3, by: "observer".into(), what: What::NodeDown { node: 2 } },
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        records.iter().for_each(|record| writer.write(record).unwrap());
        writer.finish().unwrap();
        let found: Vec<Record> = read(&path).unwrap().collect::<io::Result<_>>().unwrap();
        assert_eq!(found, records);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert!(is_torn(&path).unwrap());
        let found: Vec<Record> = read(&path).unwrap().collect::<io::Result<_>>().unwrap();
        assert_eq!(found, records[..2], "the torn last line is passed over");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap().next().unwrap().unwrap_err().to_string().contains("line 1"));
    }
}
