//! Text messages over mail gateways: how a text is counted, addressed, found in a gateway's mail, and understood.

pub mod destination;
pub mod gateway;
pub mod inbound;
pub mod keywords;
pub mod segments;
