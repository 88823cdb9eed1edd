/*
 * The kinds of events that raftd and raft-bridge write to the journal, each with its MESSAGE_ID, by which journalctl finds
 * the lines and their explanation in systemd/raft.catalog.
 *
 * Pure. What this must not know: what happens when.
 */
#ifndef RAFT_KV_SERVICE_MESSAGES_H
#define RAFT_KV_SERVICE_MESSAGES_H

/* 32 hexadecimal digits, or NULL: there is no such kind (or event is NULL). */
const char *message_id(const char *event);

#endif
