//! What one configuration key is: its name, type, unit, default, bounds, where it may be changed, what it
//! does here and one sentence of help. The parser, DescribeConfigs, the refusals and the reference page all
//! derive from these values; nothing about a key is said twice.

/// Type of a value, as DescribeConfigs reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Bool,
    /// Any text.
    Text,
    /// A 32-bit signed number.
    Int,
    /// A 16-bit signed number.
    Short,
    /// A 64-bit signed number.
    Long,
    /// A decimal number.
    Double,
    /// Texts separated by commas.
    List,
    /// The name of a Java class, which a file for Kafka may contain.
    Class,
    /// A text that is never shown.
    Password,
}

impl Kind {
    /// The number of this type in a DescribeConfigs response (v3 and above, KIP-569).
    pub fn wire(self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Text => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }

    /// The type's name in Kafka's error texts and in the reference.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "BOOLEAN",
            Kind::Text => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number or no number at all.
    None,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
}

impl Unit {
    /// Short form for tables; empty for plain numbers.
    pub fn symbol(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Minutes => "min",
            Unit::Hours => "h",
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes/s",
        }
    }
}

/// Which values of the type are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bounds {
    /// Every value of the type.
    Any,
    /// A number from this one up.
    AtLeast(i64),
    /// A number in this range, both ends included.
    Between(i64, i64),
    /// A number in this range, or -1.
    BetweenOrMinusOne(i64, i64),
    /// -1 for "no limit", or a number from 1 up.
    PositiveOrMinusOne,
    /// A decimal number in this range, both ends included.
    Ratio(f64, f64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, whatever the case of their letters.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of some of these texts.
    SubsetOf(&'static [&'static str]),
    /// A list of `partition:broker`, or the list `*`.
    ThrottledReplicas,
    /// A text that is not empty.
    NotEmpty,
}

/// What a key does in this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what its help says.
    Honoured,
    /// It steers a part of Kafka that does not exist here, and nothing is promised by it: accepted, with one
    /// warning that gives this reason.
    NoMeaning(&'static str),
    /// It promises something that would not be kept: only these values are accepted.
    Refused {
        /// The values that promise nothing, in their canonical spelling.
        fine: &'static [&'static str],
        /// Why the others are refused.
        reason: &'static str,
    },
}

/// Where a key may be changed while the broker runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dynamic {
    /// Only at start.
    ReadOnly,
    /// For all brokers at once, or for one.
    ClusterWide,
    /// In the configs of a topic.
    Topic,
}

/// A part of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Who the node is and where it listens.
    Node,
    /// Connections and requests.
    Network,
    /// Topics, logs and their files.
    Log,
    /// Defaults of what clients create.
    Topics,
    /// Consumer groups and committed offsets.
    Groups,
    /// The metadata quorum.
    Quorum,
    /// Replication between brokers.
    Replication,
    /// Transactions and idempotent producers.
    Transactions,
    /// Encryption, authentication, authorisation.
    Security,
    /// Quotas and throttles.
    Quotas,
    /// Tiered storage.
    Tiering,
    /// Metrics and the rest.
    Other,
}

impl Group {
    /// The heading of this part.
    pub fn title(self) -> &'static str {
        match self {
            Group::Node => "The node",
            Group::Network => "Connections and requests",
            Group::Log => "Logs",
            Group::Topics => "Topics",
            Group::Groups => "Consumer groups",
            Group::Quorum => "The metadata quorum",
            Group::Replication => "Replication",
            Group::Transactions => "Transactions and idempotent producers",
            Group::Security => "Security",
            Group::Quotas => "Quotas",
            Group::Tiering => "Tiered storage",
            Group::Other => "Metrics and the rest",
        }
    }
}

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    /// The key, in Kafka's spelling where Kafka has it.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// What a number counts.
    pub unit: Unit,
    /// Value when nobody set one; none where Kafka has null.
    pub default: Option<&'static str>,
    /// Allowed values.
    pub bounds: Bounds,
    /// Where it may be changed at run time.
    pub dynamic: Dynamic,
    /// What it does here.
    pub status: Status,
    /// For a topic key, the broker keys that give its default: the first one that is set wins. The number is
    /// the factor from the broker key's unit to this key's.
    pub synonyms: &'static [(&'static str, i64)],
    /// Not part of Kafka's public configuration: understood, but not listed.
    pub hidden: bool,
    /// What it does, in a sentence or two.
    pub help: &'static str,
}

impl Def {
    /// A key of this name and type; `default` is "" for an empty text or list.
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Def {
        Def {
            name,
            kind,
            unit: Unit::None,
            default: Some(default),
            bounds: Bounds::Any,
            dynamic: Dynamic::ReadOnly,
            status: Status::Honoured,
            synonyms: &[],
            hidden: false,
            help,
        }
    }

    /// The same key with null as its default.
    pub const fn unset(mut self) -> Def {
        self.default = None;
        self
    }

    /// The same key with this unit.
    pub const fn unit(mut self, unit: Unit) -> Def {
        self.unit = unit;
        self
    }

    /// The same key with these bounds.
    pub const fn bounds(mut self, bounds: Bounds) -> Def {
        self.bounds = bounds;
        self
    }

    /// The same key, with numbers from `min` up.
    pub const fn min(self, min: i64) -> Def {
        self.bounds(Bounds::AtLeast(min))
    }

    /// The same key, changeable while brokers run.
    pub const fn cluster_wide(mut self) -> Def {
        self.dynamic = Dynamic::ClusterWide;
        self
    }

    /// The same key, accepted with a warning that gives `reason`.
    pub const fn no_meaning(mut self, reason: &'static str) -> Def {
        self.status = Status::NoMeaning(reason);
        self
    }

    /// The same key, refused with `reason` unless its value is one of `fine`.
    pub const fn only(mut self, fine: &'static [&'static str], reason: &'static str) -> Def {
        self.status = Status::Refused { fine, reason };
        self
    }

    /// The same topic key, defaulting to these broker keys.
    pub const fn from_broker(mut self, synonyms: &'static [(&'static str, i64)]) -> Def {
        self.synonyms = synonyms;
        self.dynamic = Dynamic::Topic;
        self
    }

    /// The same key, left out of listings.
    pub const fn hidden(mut self) -> Def {
        self.hidden = true;
        self
    }
}

/// A key with a `true` or `false` value.
pub const fn bool(name: &'static str, default: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Bool, default, help)
}

/// A key with a text value.
pub const fn text(name: &'static str, default: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Text, default, help)
}

/// A key with a 32-bit number.
pub const fn int(name: &'static str, default: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Int, default, help)
}

/// A key with a 16-bit number.
pub const fn short(name: &'static str, default: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Short, default, help)
}

/// A key with a 64-bit number.
pub const fn long(name: &'static str, default: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Long, default, help)
}

/// A key with a decimal number.
pub const fn double(name: &'static str, default: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Double, default, help)
}

/// A key with a list.
pub const fn list(name: &'static str, default: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::List, default, help)
}

/// A key with the name of a Java class; null unless a default is set.
pub const fn class(name: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Class, "", help).unset()
}

/// A key with a secret; null by default.
pub const fn password(name: &'static str, help: &'static str) -> Def {
    Def::new(name, Kind::Password, "", help).unset()
}
