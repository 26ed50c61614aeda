//! The error codes of Kafka 4.3.
//!
//! A code is a number with a name, not an enum: what a peer sends is kept as it is, also when a later version of the
//! protocol gave it a meaning that is unknown here. The names, numbers and the class "retriable" are Kafka's; the
//! sentences are our own.

use std::fmt;

/// A result code in a response.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(
    /// The number on the wire.
    pub i16,
);

/// What is known of one code.
struct Known {
    code: i16,
    name: &'static str,
    retriable: bool,
    message: &'static str,
}

macro_rules! codes {
    ($($code:literal $name:ident $retry:ident $message:literal;)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("Code ", $code, ": ", $message, ".")]
                pub const $name: ErrorCode = ErrorCode($code);
            )*
        }

        /// All codes, in order, from [`ErrorCode::UNKNOWN_SERVER_ERROR`] without a gap.
        static KNOWN: &[Known] = &[
            $(Known { code: $code, name: stringify!($name), retriable: codes!($retry), message: $message },)*
        ];
    };
    (retriable) => { true };
    (final) => { false };
}

impl ErrorCode {
    fn known(self) -> Option<&'static Known> {
        let known = KNOWN.get(usize::try_from(self.0.checked_add(1)?).ok()?)?;
        debug_assert_eq!(known.code, self.0, "the table has no gap");
        Some(known)
    }

    /// Whether this is [`ErrorCode::NONE`].
    #[inline]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether this is anything but [`ErrorCode::NONE`].
    #[inline]
    pub const fn is_err(self) -> bool {
        self.0 != 0
    }

    /// Kafka's name of the code; `UNKNOWN` for a number that Kafka 4.3 does not have.
    pub fn name(self) -> &'static str {
        self.known().map_or("UNKNOWN", |known| known.name)
    }

    /// One sentence for people.
    pub fn message(self) -> &'static str {
        self.known().map_or("an error code that is unknown here", |known| known.message)
    }

    /// Whether a client that sends the same request again may succeed.
    pub fn is_retriable(self) -> bool {
        self.known().is_some_and(|known| known.retriable)
    }

    /// All codes of Kafka 4.3.
    pub fn all() -> impl Iterator<Item = ErrorCode> {
        KNOWN.iter().map(|known| ErrorCode(known.code))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(known) => f.write_str(known.name),
            None => write!(f, "UNKNOWN({})", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

codes! {
    -1 UNKNOWN_SERVER_ERROR final "the server failed in a way it did not expect";
    0 NONE final "no error";
    1 OFFSET_OUT_OF_RANGE final "the offset is outside the range that the partition has";
    2 CORRUPT_MESSAGE retriable "a record batch failed its checksum, is malformed, or has a null key on a compacted topic";
    3 UNKNOWN_TOPIC_OR_PARTITION retriable "this server does not have the topic or partition";
    4 INVALID_FETCH_SIZE final "the fetch size is invalid";
    5 LEADER_NOT_AVAILABLE retriable "the partition has no leader, as in the middle of an election";
    6 NOT_LEADER_OR_FOLLOWER retriable "this broker is not the leader or a replica of the partition, as this request needs";
    7 REQUEST_TIMED_OUT retriable "the request took longer than its timeout";
    8 BROKER_NOT_AVAILABLE final "the broker is not available";
    9 REPLICA_NOT_AVAILABLE retriable "the replica is not available here";
    10 MESSAGE_TOO_LARGE final "the record or batch is larger than the server accepts";
    11 STALE_CONTROLLER_EPOCH final "the controller has moved to another broker";
    12 OFFSET_METADATA_TOO_LARGE final "the metadata stored with the offset is too large";
    13 NETWORK_EXCEPTION retriable "the connection was lost before a response came";
    14 COORDINATOR_LOAD_IN_PROGRESS retriable "the coordinator is still loading";
    15 COORDINATOR_NOT_AVAILABLE retriable "the coordinator is not available";
    16 NOT_COORDINATOR retriable "this broker is not the coordinator";
    17 INVALID_TOPIC_EXCEPTION final "the request names a topic that is not valid here";
    18 RECORD_LIST_TOO_LARGE final "the batch is larger than the configured segment size";
    19 NOT_ENOUGH_REPLICAS retriable "fewer replicas are in sync than are required; nothing was written";
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable "the records were written, to fewer in-sync replicas than are required";
    21 INVALID_REQUIRED_ACKS final "the requested acknowledgements are none of 0, 1 and -1";
    22 ILLEGAL_GENERATION final "the generation given is not that of the group";
    23 INCONSISTENT_GROUP_PROTOCOL final "the member's protocol type or protocols match nothing that the group uses";
    24 INVALID_GROUP_ID final "the group id is not valid";
    25 UNKNOWN_MEMBER_ID final "the coordinator does not know this member";
    26 INVALID_SESSION_TIMEOUT final "the session timeout is outside what the broker allows";
    27 REBALANCE_IN_PROGRESS final "the group is rebalancing; join again";
    28 INVALID_COMMIT_OFFSET_SIZE final "the offset data is larger than may be committed";
    29 TOPIC_AUTHORIZATION_FAILED final "not authorised for the topic";
    30 GROUP_AUTHORIZATION_FAILED final "not authorised for the group";
    31 CLUSTER_AUTHORIZATION_FAILED final "not authorised for the cluster";
    32 INVALID_TIMESTAMP final "the timestamp of a record is outside what is accepted";
    33 UNSUPPORTED_SASL_MECHANISM final "the server does not offer the SASL mechanism";
    34 ILLEGAL_SASL_STATE final "the request does not fit the state of the SASL exchange";
    35 UNSUPPORTED_VERSION final "the server does not support this version of the API";
    36 TOPIC_ALREADY_EXISTS final "a topic of this name exists";
    37 INVALID_PARTITIONS final "the number of partitions is not valid";
    38 INVALID_REPLICATION_FACTOR final "the replication factor is below 1 or above the number of available brokers";
    39 INVALID_REPLICA_ASSIGNMENT final "the replica assignment is not valid";
    40 INVALID_CONFIG final "the configuration is not valid";
    41 NOT_CONTROLLER retriable "this is not the right controller of the cluster";
    42 INVALID_REQUEST final "the request contradicts itself, or no such request is allowed here; see the server's log";
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT final "the message format on the broker does not support the request";
    44 POLICY_VIOLATION final "the request does not satisfy the configured policy";
    45 OUT_OF_ORDER_SEQUENCE_NUMBER final "the sequence number does not follow the last one of the producer";
    46 DUPLICATE_SEQUENCE_NUMBER final "the sequence number was used before";
    47 INVALID_PRODUCER_EPOCH final "the producer's epoch is older than the one known";
    48 INVALID_TXN_STATE final "the operation does not fit the state of the transaction";
    49 INVALID_PRODUCER_ID_MAPPING final "the producer id is not the one assigned to the transactional id";
    50 INVALID_TRANSACTION_TIMEOUT final "the transaction timeout is larger than the broker allows";
    51 CONCURRENT_TRANSACTIONS retriable "another operation of the same transaction is still under way";
    52 TRANSACTION_COORDINATOR_FENCED final "the transaction coordinator that sent this is not the current one";
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED final "not authorised for the transactional id";
    54 SECURITY_DISABLED final "security features are disabled";
    55 OPERATION_NOT_ATTEMPTED final "not attempted, because the request failed for another reason first";
    56 KAFKA_STORAGE_ERROR retriable "the log directory could not be read or written";
    57 LOG_DIR_NOT_FOUND final "the broker has no such log directory";
    58 SASL_AUTHENTICATION_FAILED final "SASL authentication failed";
    59 UNKNOWN_PRODUCER_ID final "the broker knows no state of this producer id";
    60 REASSIGNMENT_IN_PROGRESS final "a reassignment of the partition is under way";
    61 DELEGATION_TOKEN_AUTH_DISABLED final "delegation tokens are not enabled";
    62 DELEGATION_TOKEN_NOT_FOUND final "the server does not have the delegation token";
    63 DELEGATION_TOKEN_OWNER_MISMATCH final "the principal owns no such delegation token";
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED final "delegation tokens cannot be requested over this kind of connection";
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED final "not authorised for the delegation token";
    66 DELEGATION_TOKEN_EXPIRED final "the delegation token has expired";
    67 INVALID_PRINCIPAL_TYPE final "this kind of principal is not supported";
    68 NON_EMPTY_GROUP final "the group is not empty";
    69 GROUP_ID_NOT_FOUND final "the group does not exist";
    70 FETCH_SESSION_ID_NOT_FOUND retriable "the fetch session does not exist";
    71 INVALID_FETCH_SESSION_EPOCH retriable "the epoch of the fetch session is not the expected one";
    72 LISTENER_NOT_FOUND retriable "the leader has no listener that matches the one the request came by";
    73 TOPIC_DELETION_DISABLED final "deletion of topics is disabled";
    74 FENCED_LEADER_EPOCH retriable "the leader epoch in the request is older than the broker's";
    75 UNKNOWN_LEADER_EPOCH retriable "the leader epoch in the request is newer than the broker's";
    76 UNSUPPORTED_COMPRESSION_TYPE final "the client does not support the compression type of the batch";
    77 STALE_BROKER_EPOCH final "the broker's epoch is not the current one";
    78 OFFSET_NOT_AVAILABLE retriable "the high watermark has not caught up after the last election";
    79 MEMBER_ID_REQUIRED final "join again, with the member id just given";
    80 PREFERRED_LEADER_NOT_AVAILABLE retriable "the preferred leader is not available";
    81 GROUP_MAX_SIZE_REACHED final "the group has as many members as it may";
    82 FENCED_INSTANCE_ID final "another member with the same static id took this one's place";
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE retriable "no eligible leader of the partition is available";
    84 ELECTION_NOT_NEEDED retriable "the partition needs no election";
    85 NO_REASSIGNMENT_IN_PROGRESS final "no reassignment is under way";
    86 GROUP_SUBSCRIBED_TO_TOPIC final "the group is subscribed to the topic";
    87 INVALID_RECORD final "a record failed the broker's validation";
    88 UNSTABLE_OFFSET_COMMIT retriable "offsets of an unfinished transaction are still to be settled";
    89 THROTTLING_QUOTA_EXCEEDED retriable "the quota is used up";
    90 PRODUCER_FENCED final "a newer producer with the same transactional id took this one's place";
    91 RESOURCE_NOT_FOUND final "the resource does not exist";
    92 DUPLICATE_RESOURCE final "the resource is named twice";
    93 UNACCEPTABLE_CREDENTIAL final "the credential does not meet the requirements";
    94 INCONSISTENT_VOTER_SET final "sender or receiver of this voter request is not a voter";
    95 INVALID_UPDATE_VERSION final "the update was based on a version that is not current";
    96 FEATURE_UPDATE_FAILED final "the finalized features could not be updated";
    97 PRINCIPAL_DESERIALIZATION_FAILURE final "the principal in a forwarded request could not be read";
    98 SNAPSHOT_NOT_FOUND final "the snapshot does not exist";
    99 POSITION_OUT_OF_RANGE final "the position is outside the snapshot";
    100 UNKNOWN_TOPIC_ID retriable "this server has no topic of this id";
    101 DUPLICATE_BROKER_REGISTRATION final "the broker id is registered by another broker";
    102 BROKER_ID_NOT_REGISTERED final "the broker id is not registered";
    103 INCONSISTENT_TOPIC_ID retriable "the topic id in the log is not the one in the request";
    104 INCONSISTENT_CLUSTER_ID final "the cluster id in the request is not that of this cluster";
    105 TRANSACTIONAL_ID_NOT_FOUND final "the transactional id is unknown";
    106 FETCH_SESSION_TOPIC_ID_ERROR retriable "the fetch session and the request disagree on the use of topic ids";
    107 INELIGIBLE_REPLICA final "a replica of the new in-sync set is not eligible for it";
    108 NEW_LEADER_ELECTED final "the partition moved to another leader in the course of the request";
    109 OFFSET_MOVED_TO_TIERED_STORAGE final "the offset is in tiered storage";
    110 FENCED_MEMBER_EPOCH final "the member's epoch is fenced; leave and join again";
    111 UNRELEASED_INSTANCE_ID final "another member still holds this static id";
    112 UNSUPPORTED_ASSIGNOR final "the assignor is not supported";
    113 STALE_MEMBER_EPOCH final "the member's epoch is old; retry with the one of the next heartbeat";
    114 MISMATCHED_ENDPOINT_TYPE final "the request was sent to the wrong kind of endpoint";
    115 UNSUPPORTED_ENDPOINT_TYPE final "this kind of endpoint is unknown here";
    116 UNKNOWN_CONTROLLER_ID final "the controller id is unknown";
    117 UNKNOWN_SUBSCRIPTION_ID final "the subscription id is not the current one";
    118 TELEMETRY_TOO_LARGE final "the telemetry is larger than the broker accepts";
    119 INVALID_REGISTRATION final "the registration of the controller is not valid";
    120 TRANSACTION_ABORTABLE final "the transaction can go on only by being aborted";
    121 INVALID_RECORD_STATE final "the state of the record does not allow the operation";
    122 SHARE_SESSION_NOT_FOUND retriable "the share session does not exist";
    123 INVALID_SHARE_SESSION_EPOCH retriable "the epoch of the share session is not the expected one";
    124 FENCED_STATE_EPOCH final "the share coordinator's state has another epoch";
    125 INVALID_VOTER_KEY final "the voter key does not match that of the replica";
    126 DUPLICATE_VOTER final "the voter is in the set of voters";
    127 VOTER_NOT_FOUND final "the voter is not in the set of voters";
    128 INVALID_REGULAR_EXPRESSION final "the regular expression is not valid";
    129 REBOOTSTRAP_REQUIRED final "the client's view of the cluster is of no use; start again from the bootstrap servers";
    130 STREAMS_INVALID_TOPOLOGY final "the topology is not valid";
    131 STREAMS_INVALID_TOPOLOGY_EPOCH final "the epoch of the topology is not valid";
    132 STREAMS_TOPOLOGY_FENCED final "the epoch of the topology is old";
    133 SHARE_SESSION_LIMIT_REACHED retriable "the broker has as many share sessions as it may";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_gap() {
        let codes: Vec<i16> = ErrorCode::all().map(|code| code.0).collect();
        assert_eq!(codes, (-1..=133).collect::<Vec<i16>>());
        assert!(ErrorCode::all().all(|code| code.is_ok() || !code.message().is_empty()));
    }

    #[test]
    fn unknown_codes_are_kept() {
        for code in [i16::MIN, -2, 134, i16::MAX] {
            assert_eq!(ErrorCode(code).to_string(), format!("UNKNOWN({code})"));
            assert!(!ErrorCode(code).is_retriable());
        }
        assert_eq!(ErrorCode::NOT_COORDINATOR.to_string(), "NOT_COORDINATOR");
        assert!(ErrorCode::NOT_COORDINATOR.is_retriable());
        assert!(!ErrorCode::INVALID_TOPIC_EXCEPTION.is_retriable());
    }
}
