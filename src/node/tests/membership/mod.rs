//! Who forms a cluster, joins one, leaves one, and calls from outside.

mod forming;
mod founding;
mod removal;
mod strangers;
mod transfer;

use super::*;
