mod client;
mod conversation;
mod replicated;
mod serving;
mod sources;
