//! Forward: a request that another node carries to the active controller, which this node is or is not.

use moldau_wire::forward::{Request, Response};
use moldau_wire::{ErrorCode, Response as AnyResponse};

use crate::Shard;
use crate::connections::Context;

/// Answers as if the client had come itself.
pub(crate) fn handle(shard: &mut Shard, context: Context, request: Request) {
    let error_code = if *request.cluster_id != *shard.settings.cluster_id {
        ErrorCode::INCONSISTENT_CLUSTER_ID
    } else if !crate::control::is_active(shard) {
        ErrorCode::NOT_CONTROLLER
    } else {
        return super::carried(shard, context, request.frame);
    };
    let response = Response { error_code, metadata_offset: -1, ..Response::default() };
    shard.reply(context, AnyResponse::Forward(response));
}
