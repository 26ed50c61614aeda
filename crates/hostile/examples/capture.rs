//! Stands between clients and a broker and keeps what they say as seeds: `capture LISTEN BROKER [FOLDER]`.
//!
//! Of every API and version the shortest request and response is kept, in `client-NAME-vN` of the targets that read it. The broker has to
//! advertise the address that this program listens on; docs/fuzzing.md says how.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use moldau_hostile::seeds;
use moldau_wire::{ApiKey, decode_header, frame};

/// Longer messages are not kept: a fuzzer gets nowhere with them.
const LONGEST: usize = 1500;
const FRAME_LIMIT: u32 = 64 << 20;

/// What was kept: its length by the name of its file.
#[derive(Default)]
struct Kept {
    folder: PathBuf,
    lengths: BTreeMap<String, usize>,
}

impl Kept {
    fn offer(&mut self, target: &str, name: &str, input: &[u8]) {
        let file = format!("{target}/client-{name}");
        let shortest = self.lengths.get(&file).copied().unwrap_or(LONGEST + 1);
        if input.len() < shortest {
            let path = self.folder.join(&file);
            let written = path
                .parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| std::fs::write(&path, input));
            match written {
                Ok(()) => drop(self.lengths.insert(file, input.len())),
                Err(error) => eprintln!("{}: {error}", path.display()),
            }
        }
    }
}

/// What one connection has asked and was not answered yet: by correlation id, API and version.
type Open = Arc<Mutex<BTreeMap<i32, (ApiKey, i16)>>>;

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes on, and shows the frames in them.
fn pass(mut from: TcpStream, mut to: TcpStream, mut show: impl FnMut(Bytes)) {
    let mut buffer = vec![0; 64 << 10];
    let mut frames = BytesMut::new();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        frames.extend_from_slice(&buffer[..read]);
        while let Ok(Some(whole)) = frame::split(&mut frames, FRAME_LIMIT) {
            show(whole);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other side is gone or will notice.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn asked(kept: &Mutex<Kept>, open: &Open, whole: Bytes) {
    let Ok((key, header, body)) = decode_header(whole.clone()) else { return };
    let version = header.request_api_version;
    locked(open).insert(header.correlation_id, (key, version));
    let name = format!("{key}-v{version}");
    let mut kept = locked(kept);
    kept.offer("requests", &name, &seeds::message(key, version, &body));
    kept.offer("frames", &name, &seeds::stream(&whole));
    kept.offer("broker", &name, &seeds::conversation(key, version, &body));
}

fn answered(kept: &Mutex<Kept>, open: &Open, whole: Bytes) {
    let Some(correlation) = whole.first_chunk().map(|id| i32::from_be_bytes(*id)) else { return };
    let Some((key, version)) = locked(open).remove(&correlation) else { return };
    locked(kept).offer("responses", &format!("{key}-v{version}"), &seeds::message(key, version, &whole));
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, broker, folder @ ..] = args.as_slice() else {
        eprintln!("usage: capture LISTEN BROKER [FOLDER]");
        std::process::exit(2);
    };
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let folder = folder.first().map_or(default, PathBuf::from);
    let kept = Arc::new(Mutex::new(Kept { folder, ..Kept::default() }));
    let listener = TcpListener::bind(listen)?;
    println!("clients of {broker} may come to {}", listener.local_addr()?);
    for client in listener.incoming().flatten() {
        let Ok(server) = TcpStream::connect(broker) else { continue };
        let (Ok(back), Ok(answers)) = (client.try_clone(), server.try_clone()) else { continue };
        let open = Open::default();
        let (keep, mine) = (kept.clone(), open.clone());
        std::thread::spawn(move || pass(client, server, |whole| asked(&keep, &mine, whole)));
        let keep = kept.clone();
        std::thread::spawn(move || pass(answers, back, |whole| answered(&keep, &open, whole)));
    }
    Ok(())
}
