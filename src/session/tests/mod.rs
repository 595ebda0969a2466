mod client;
mod conversation;
mod serving;
