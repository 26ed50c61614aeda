//! `moldau log dump`: what is in a partition's files, read without a node and changed in nothing.

use std::path::Path;

use anyhow::{Context, bail};
use moldau_base::disk::DirId;
use moldau_node::FsDisk;
use moldau_storage::Depth;
use moldau_storage::dump::{Found, Summary, dump, segments};
use serde_json::{Value, json};

use crate::args::{Format, Global, Log, LogAction};
use crate::output;
use crate::progress::Progress;

/// Runs the command.
pub fn run(global: &Global, arguments: &Log) -> anyhow::Result<()> {
    let LogAction::Dump { directory, summary } = &arguments.action;
    let full = directory.canonicalize().with_context(|| directory.display().to_string())?;
    let (Some(parent), Some(name)) = (full.parent(), full.file_name().and_then(|name| name.to_str())) else {
        bail!("{}: name the directory of a partition, such as moldau-data/hello-0", directory.display());
    };
    if !full.is_dir() {
        bail!("{} is no directory; name that of the partition, here {}", full.display(), parent.display());
    }
    let disk = FsDisk::new(vec![parent.to_owned()]);
    let files = segments(&disk, DirId(0), name)?;
    if files.is_empty() {
        bail!(
            "{} holds no segment; name the directory of a partition, such as moldau-data/hello-0",
            full.display()
        );
    }
    let mut printer = Printer { format: global.output, brief: *summary, failed: None };
    let total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let mut progress = Progress::of_bytes(Some(total));
    let (mut before, mut current) = (0, 0);
    let counted = dump(&disk, DirId(0), name, Depth::Checksums, &mut |found| {
        match &found {
            Found::Segment { bytes, .. } => {
                before += current;
                current = *bytes;
                progress.set(before);
            }
            Found::Batch { position, .. } => progress.set(before + position),
            _ => {}
        }
        printer.print(&found);
    })?;
    drop(progress);
    if let Some(error) = printer.failed {
        return Err(error);
    }
    finish(global.output, &full, &counted)
}

fn finish(format: Format, directory: &Path, counted: &Summary) -> anyhow::Result<()> {
    let Summary { segments, batches, records, bytes, problems } = *counted;
    match format {
        Format::Json => output::line(&json!({ "summary": {
            "segments": segments, "batches": batches, "records": records, "bytes": bytes, "problems": problems,
        }}).to_string())?,
        Format::Table => output::line(&format!(
            "{segments} segments, {batches} batches, {records} records, {}, {problems} problems",
            output::bytes(bytes)
        ))?,
    }
    if problems > 0 {
        bail!("{}: {problems} problems; what is damaged is never served as good", directory.display());
    }
    Ok(())
}

struct Printer {
    format: Format,
    brief: bool,
    failed: Option<anyhow::Error>,
}

impl Printer {
    fn print(&mut self, found: &Found) {
        let is_batch = matches!(found, Found::Batch { .. });
        if self.failed.is_some() || (self.brief && is_batch) {
            return;
        }
        let text = match self.format {
            Format::Json => object(found).to_string(),
            Format::Table => sentence(found),
        };
        self.failed = output::line(&text).err();
    }
}

fn sentence(found: &Found) -> String {
    match found {
        Found::Segment { base, bytes } => format!("segment {base:020} {}", output::bytes(*bytes)),
        Found::Batch { position, header, .. } => {
            let codec = header.attributes.codec().map_or("?", moldau_batch::Codec::name);
            let mut line = format!(
                "  at {position}: offsets {}-{} records {} epoch {} bytes {} {codec} time {}",
                header.base_offset,
                header.last_offset(),
                header.count,
                header.leader_epoch,
                header.size(),
                header.max_timestamp,
            );
            if header.has_producer_id() {
                let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
                line.push_str(&format!(" producer {id} epoch {epoch} sequence {sequence}"));
            }
            if header.attributes.is_control() {
                line.push_str(" control");
            }
            line
        }
        Found::Damage { position, resumes, flaw, .. } => {
            let rest = resumes.map_or("to the end of the segment".to_owned(), |at| format!("to {at}"));
            format!("  DAMAGE at {position} {rest}: {flaw}")
        }
        Found::Index { segment, kind, why } => format!("  INDEX {kind:?} of segment {segment}: {why}"),
    }
}

fn object(found: &Found) -> Value {
    match found {
        Found::Segment { base, bytes } => json!({ "segment": base, "bytes": bytes }),
        Found::Batch { segment, position, header } => json!({
            "segment": segment, "position": position, "base_offset": header.base_offset,
            "last_offset": header.last_offset(), "records": header.count, "leader_epoch": header.leader_epoch,
            "bytes": header.size(), "codec": header.attributes.codec().map_or("?", moldau_batch::Codec::name),
            "max_timestamp": header.max_timestamp, "producer_id": header.producer_id,
            "producer_epoch": header.producer_epoch, "base_sequence": header.base_sequence,
            "transactional": header.attributes.is_transactional(), "control": header.attributes.is_control(),
        }),
        Found::Damage { segment, position, resumes, flaw } => json!({
            "segment": segment, "damage_at": position, "resumes": resumes, "why": flaw.to_string(),
        }),
        Found::Index { segment, kind, why } => {
            json!({ "segment": segment, "index": format!("{kind:?}"), "why": why })
        }
    }
}
