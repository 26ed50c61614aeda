//! A controller with its log, as a node would keep them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moldau_base::{Now, Rng, Uuid};
use moldau_controller::{
    Controller, Decision, Delta, FeatureRange, Image, Listener, Record, Refusal, RegisterBroker, Request,
    Settings, snapshot,
};

pub const CLUSTER: &str = "testcluster";

/// A controller, and the log of what it decided.
pub struct World {
    pub controller: Controller,
    pub log: Vec<Bytes>,
    pub now: Now,
    rng: Rng,
}

impl World {
    pub fn new(seed: u64) -> World {
        let settings = Settings {
            session_timeout: Some(Duration::from_millis(500)),
            rebalance_interval: Some(Duration::from_secs(300)),
            ..Settings::default()
        };
        let mut controller = Controller::new(settings, Image::new(CLUSTER));
        controller.activate(Now::default());
        World { controller, log: vec![], now: Now::default(), rng: Rng::seeded(seed) }
    }

    /// Decides, and appends and applies what was decided; the delta is what a broker would react to.
    pub fn request(&mut self, request: &Request) -> Result<(Decision, Delta), Refusal> {
        let before = self.controller.image().clone();
        let decision = self.controller.decide(self.now, &mut self.rng, request)?;
        assert_eq!(*self.controller.image(), before, "deciding changes nothing");
        for record in &decision.records {
            let bytes = record.encode().expect("every record has bytes");
            self.controller.apply(self.log.len() as i64, record).expect("what was decided fits");
            self.log.push(bytes);
        }
        let delta = Delta::between(&before, self.controller.image());
        Ok((decision, delta))
    }

    /// The image that the bytes of the log give.
    pub fn replayed(&self) -> Image {
        let mut image = Image::new(CLUSTER);
        for (offset, bytes) in (0..).zip(&self.log) {
            let record = Record::decode(bytes.clone()).expect("decodes");
            image.apply(offset, &record).expect("fits");
        }
        image
    }

    /// The image that a snapshot gives.
    pub fn restored(&self) -> Image {
        let mut image = Image::new(CLUSTER);
        for record in snapshot::records(self.controller.image()) {
            let record = Record::decode(record.encode().expect("encodes")).expect("decodes");
            image.apply(self.controller.image().offset(), &record).expect("fits");
        }
        image.advance(self.controller.image().offset());
        image
    }
}

/// The registration of a broker whose process has this number.
pub fn broker(id: i32, process: u8, rack: Option<&str>) -> RegisterBroker {
    let mut dir = [id as u8; 16];
    dir[0] = 1;
    RegisterBroker {
        id: moldau_base::NodeId(id),
        cluster_id: CLUSTER.into(),
        incarnation: Uuid([process; 16]),
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: 9092,
            security_protocol: 0,
        }],
        rack: rack.map(Arc::from),
        features: vec![FeatureRange { name: "metadata.version".into(), min: 7, max: 30 }],
        log_dirs: vec![Uuid(dir)],
        fenced: false,
        stopped_at: None,
    }
}
