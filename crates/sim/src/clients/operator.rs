//! An operator: changes a topic's configuration and adds partitions, and looks whether what was answered is so, through crashes.

use std::rc::Rc;

use bytestring::ByteString;
use moldau_wire::{
    ApiKey, ErrorCode, create_partitions, describe_configs, incremental_alter_configs, metadata,
};

use super::admin::Topic;
use super::register::{Outcome, Register};
use crate::cx::{Cx, Gone};
use crate::failure;
use crate::kafka::Kafka;

/// The key that is changed: nothing else in a run depends on it.
const KEY: ByteString = ByteString::from_static("max.message.bytes");
/// Its least value here.
const LEAST: u64 = 1_000_000;
/// In ConfigResource: a topic.
const TOPIC: i8 = 2;
/// In DescribeConfigs: set for this topic.
const OF_TOPIC: i8 = 1;
/// In IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;

struct Operator {
    cx: Cx,
    topic: Rc<Topic>,
    /// What is set for the topic; nothing: the default holds.
    config: Register<Option<String>>,
    partitions: Register<usize>,
    highest: usize,
}

/// Changes and looks until the faults are over; then how many partitions there are.
pub async fn operate(cx: Cx, topic: Rc<Topic>) -> i32 {
    let partitions = topic.partitions as usize;
    let mut operator = Operator {
        cx: cx.clone(),
        topic,
        config: Register::new(None),
        partitions: Register::new(partitions),
        highest: partitions,
    };
    let mut looked = None;
    while looked.is_none() {
        let is_last = !cx.in_trouble();
        cx.doing("changing configuration and partitions");
        let kafka = Kafka::connect_at_last(&cx).await;
        looked = operator.work(&kafka, is_last).await.unwrap_or(None);
        cx.pause_ms(20, 500).await;
    }
    cx.doing("done");
    looked.unwrap_or(partitions) as i32
}

impl Operator {
    /// Some changes; at last only a look: how many partitions there are.
    async fn work(&mut self, kafka: &Kafka, is_last: bool) -> Result<Option<usize>, Gone> {
        if is_last {
            let config = self.describe(kafka).await?;
            return Ok(self.count(kafka).await?.filter(|_| config));
        }
        for _ in 0..self.cx.between(1, 20) {
            match self.cx.between(0, 9) {
                0 if self.highest < 8 => self.grow(kafka).await?,
                0..=4 => self.alter(kafka).await?,
                5 | 6 => drop(self.count(kafka).await?),
                _ => drop(self.describe(kafka).await?),
            }
            self.cx.pause_ms(0, 500).await;
        }
        Ok(None)
    }

    async fn alter(&mut self, kafka: &Kafka) -> Result<(), Gone> {
        let set = !self.cx.one_in(4);
        let value = set.then(|| (LEAST + self.cx.between(0, 1_000_000)).to_string());
        let config = incremental_alter_configs::request::Config {
            name: KEY,
            config_operation: if set { SET } else { DELETE },
            value: value.as_deref().map(ByteString::from),
        };
        let resource = incremental_alter_configs::request::Resource {
            resource_type: TOPIC,
            resource_name: self.topic.name.clone(),
            configs: vec![config],
        };
        self.config.write(&value);
        let request = incremental_alter_configs::Request { resources: vec![resource], validate_only: false };
        let response = kafka.call(request).await?;
        let code = response.responses.first().map(|resource| resource.error_code);
        let outcome = self.outcome("IncrementalAlterConfigs", code);
        self.config.settle(&value, outcome);
        self.cx.count("configurations altered", 1);
        Ok(())
    }

    async fn grow(&mut self, kafka: &Kafka) -> Result<(), Gone> {
        self.highest += 1;
        let count = self.highest;
        let topic = create_partitions::request::Topic {
            name: self.topic.name.clone(),
            count: count as i32,
            assignments: None,
        };
        let request =
            create_partitions::Request { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
        self.partitions.write(&count);
        let response = kafka.call(request).await?;
        let code = response.results.first().map(|topic| topic.error_code);
        let outcome = self.outcome("CreatePartitions", code);
        self.partitions.settle(&count, outcome);
        self.cx.count("partitions added", 1);
        Ok(())
    }

    fn outcome(&self, what: &str, code: Option<ErrorCode>) -> Outcome {
        match code.unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR) {
            ErrorCode::NONE => Outcome::Done,
            // The metadata quorum cannot say whether a proposal will be committed.
            code if code.is_retriable() => Outcome::Unknown,
            code => {
                self.cx.problem(format!("{what} of {} was refused: {code:?}", self.topic.name));
                Outcome::NotDone
            }
        }
    }

    /// Asks for the configuration; whether there was an answer.
    async fn describe(&mut self, kafka: &Kafka) -> Result<bool, Gone> {
        let resource = describe_configs::request::Resource {
            resource_type: TOPIC,
            resource_name: self.topic.name.clone(),
            configuration_keys: Some(vec![KEY]),
        };
        let request = describe_configs::Request { resources: vec![resource], ..Default::default() };
        kafka.use_newest(ApiKey::DescribeConfigs);
        let response = kafka.call(request).await?;
        let Some(resource) = response.results.first().filter(|resource| resource.error_code.is_ok()) else {
            return Ok(false);
        };
        let config = resource.configs.first().filter(|config| config.config_source == OF_TOPIC);
        let value = config.and_then(|config| config.value.as_ref()).map(ToString::to_string);
        self.check("max.message.bytes", |operator| operator.config.told(value));
        Ok(true)
    }

    /// Asks how many partitions there are.
    async fn count(&mut self, kafka: &Kafka) -> Result<Option<usize>, Gone> {
        let topic = metadata::request::Topic { name: Some(self.topic.name.clone()), ..Default::default() };
        let request = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
        let response = kafka.call(request).await?;
        let Some(topic) = response.topics.first().filter(|topic| topic.error_code.is_ok()) else {
            return Ok(None);
        };
        let count = topic.partitions.len();
        self.check("the number of partitions", |operator| operator.partitions.told(count));
        Ok(Some(count))
    }

    fn check(&mut self, of: &str, told: impl FnOnce(&mut Operator) -> Result<(), String>) {
        if let Err(what) = told(self) {
            self.cx.broken(failure::WRONG_METADATA, format!("{of} of {}: {what}", self.topic.name));
        }
    }
}
