/*
 * The inside of a replica, shared by replica.c (life, loop), start.c (recovery), requests.c (proposals, reads), update.c
 * (carrying out what the core decides), message.c (core messages to wire messages and back), membership.c (hellos,
 * founding, changes), room.c (a full disk), damage.c (entries that cannot be read), snapshot_take.c, snapshot_send.c and snapshot_install.c (snapshots), divergence.c (do all copies agree), level.c (what all members
 * understand), status.c.
 * Nobody else includes it.
 */
#ifndef RAFT_KV_REPLICA_INTERNAL_H
#define RAFT_KV_REPLICA_INTERNAL_H

#include "../storage/snapshots.h"
#include "../transport/wire.h"
#include "pending.h"
#include "replica.h"

/* Entries taken from the log to be applied in one go: bounds the time between two looks at the network. */
#define REPLICA_APPLY_ENTRIES_MAX 1024u
#define REPLICA_APPLY_BYTES_MAX (2u * 1024u * 1024u)
#define REPLICA_APPLY_ROUNDS_MAX 8u
#define REPLICA_FRAMES_MAX 256u /* received in one call of replica_process */

/* Bytes of a snapshot produced or loaded in one call of replica_process: bounds how long a heartbeat waits for it. */
#define REPLICA_SNAPSHOT_SLICE (256u * 1024u)
/* One is produced that often, unless clients wait for the snapshot: 320 MiB/s leave them CPU and disk. */
#define REPLICA_SNAPSHOT_PACE_US 800u
#define REPLICA_SNAPSHOT_RETRY_US 1000000u /* after a disk without room, or a memory */
#define REPLICA_HELLO_US 200000u	   /* a member that no configuration names says hello this often */

/* A result besides those of storage and replicator.h: the snapshot is as it was written, and what is in it is refused. */
#define REPLICA_E_REFUSED 1000
#define REPLICA_REFUSED_DOUBLINGS 6u /* of the time until the same one is taken from the same member again */

/* The hash of the state as of an entry. */
struct replica_checkpoint {
	uint64_t index; /* 0: none */
	uint64_t hash;
};

/* Said hello; it counts when an append of this term has been answered from there, of this round or a later one. */
struct replica_returned {
	uint64_t incarnation, term, round; /* 0: none did */
	uint64_t numbered_us;		   /* when the round began */
};

/* What is known of another member and is no business of the core. */
struct replica_peer {
	uint64_t id;	      /* 0: the slot is free */
	uint64_t incarnation; /* as last heard; 0: never */
	uint64_t named_us;    /* when a message to the core came last from the directory that the configuration names */
	bool blank;	      /* as its last hello said */
	uint64_t number;      /* in that hello: its own, or this member's that it repeats; 0: none */
	unsigned level; /* newest feature level it knows, by that hello; 0: not heard since the connection closed */
	uint64_t greeted_us;		  /* when a hello of it was answered with one */
	struct replica_returned returned; /* a directory of it that is not the configuration's, and said hello */
	uint64_t offered_us;		  /* when a snapshot was offered to it last */
	uint64_t stranger_told_us;	  /* when it was told last that it is no member */
	bool astray;			  /* connected where it said that it is, and not where the configuration says */
	struct replica_checkpoint checkpoint; /* its answer in the round under way */
};

/* A snapshot of the state machine on its way to the disk. */
struct replica_taking {
	void *snapshot; /* the machine's; NULL: none is being taken */
	uint8_t *buf;	/* REPLICA_SNAPSHOT_SLICE bytes, while one is being taken */
	size_t filled, taken;
	uint64_t next_us; /* when the next slice is due, once this one is taken */
	bool read_all;
	bool finishing; /* the storage has all of it */
	uint64_t retry_us;
	bool no_room; /* the last one found none, and that was said */
	bool wanted;  /* whatever the size of the log */
	enum replica_log_size {
		REPLICA_LOG_FITS,
		REPLICA_LOG_LONG,  /* a leader takes no proposals until the snapshot is durable */
		REPLICA_LOG_LIMIT, /* nor does a follower take entries */
	} log_size;
	uint64_t moved_us; /* when the snapshot came nearer to its end, or the log began to wait for one */
};

/* A snapshot of the leader on its way to this disk. */
struct replica_receiving {
	uint64_t index; /* 0: none */
	uint64_t term;
	uint64_t total;
	uint64_t from;
	uint64_t leader_term;
	uint64_t requested; /* up to this offset of the file */
	uint64_t again_us;  /* ask again then */
};

/* A snapshot on its way from the disk into the state machine. */
struct replica_restoring {
	struct snapshot_reader *reader; /* NULL: none */
	uint64_t index;
	uint64_t term;
	uint64_t config_index;
	uint64_t time_ms; /* the newest in any of its entries */
	struct raft_config config;
	struct replica_receiving received; /* whom it came from; index 0: it is the disk's, at the start */
};

/* The last received snapshot that this member could not load, since it installed one; or from: 0, one that it started without. */
struct replica_refused {
	uint64_t index, from; /* index 0: there was none */
	unsigned times;	      /* it was taken, one after the other */
	uint64_t after_us;    /* that member's offers of it are passed over before */
};

/* A disk without room, or one that does not get on. */
struct replica_room {
	bool full;	   /* as last reported */
	uint64_t tried;	   /* the voter that leadership was offered to last */
	uint64_t again_us; /* not offered to the next one before */
	bool refused;	   /* a proposal, and nothing was written since */
	uint64_t refused_us;
	uint64_t written_bytes; /* then, to the log */
};

/* Comparing states. */
#define REPLICA_CHECKPOINTS 64u /* remembered: some heartbeats' worth of entries under the heaviest load */
struct replica_divergence {
	struct replica_checkpoint ring[REPLICA_CHECKPOINTS]; /* by number */
	uint64_t newest;

	/* Asked by a leader, not reached yet. */
	uint64_t wanted; /* 0: nothing */
	uint64_t wanted_by, wanted_term;

	/* As leader: the round under way, or the last one. */
	bool open;
	uint64_t asked, asked_hash, asked_us, asked_term;
	uint64_t again_us;
	uint64_t reported; /* the differences at this one */
};

/* The file that other members are being sent. */
struct replica_sending {
	struct snapshot_reader *reader; /* NULL: none */
	uint64_t index, term, total;
	uint64_t used_us;
	uint8_t *buf; /* WIRE_CHUNK_BYTES_MAX */
};

struct replica {
	struct replica_options options;
	struct raft *core;
	struct storage *storage;
	struct disk *disk; /* the storage's */
	struct transport *transport;
	const struct replicator_machine *machine;
	void *machine_arg;

	uint64_t incarnation;
	bool aside; /* the directory holds what was damaged, or a snapshot that cannot be read: blank or not, it is none that a
		     * cluster is founded with */
	uint64_t commit;
	uint64_t applied;
	uint64_t durable_seq; /* last one told to the core */
	bool persisted_held;  /* the core cannot be told yet: what it would do then has no room */
	uint64_t core_deadline_us;
	uint64_t tick_held_us; /* no tick before: it would have no room for its write */
	uint64_t last_time_ms; /* the newest in any entry known here; stamped ones never go back */
	uint64_t next_read_id;
	bool stall_reported;
	bool work_left; /* frames or entries were left over by the last call */
	int failed;	/* why the member must stop: nothing is done any more */
	uint64_t
		promises_end_us; /* longer promises than it gives now, of before its start, are over then; 0: none were given */
	uint64_t damaged_until; /* a snapshot at this entry or beyond is wanted, and then no log before it; 0: none … */
	uint64_t damaged_at;	/* … and at this one, which is applied, at once: others may need it */

	struct pending_queue runs;  /* struct pending_run */
	struct pending_queue reads; /* struct pending_read, read ids consecutive */

	struct raft_entry *entries; /* scratch: WIRE_ENTRIES_MAX */
	uint32_t *sizes;	    /* scratch of as many */

	uint64_t now_us;  /* of the call under way */
	uint64_t wall_ms; /* likewise */

	/* Membership. */
	struct replica_peer peers[2 * RAFT_MEMBERS_MAX];
	uint64_t followed_config_index; /* the transport's peers are those of this configuration … */
	bool followed_config;		/* … if there was one; index UINT64_MAX: look again */
	uint64_t hello_us;		/* due then; UINT64_MAX: this member is one */
	uint64_t founding_number;	/* in hellos of a member that may found: who is blank now repeats it */
	uint64_t founding_number_until_us;
	bool any_astray;	   /* of the peers */
	bool unconnected;	   /* not all of them could be connected to */
	uint64_t disconnect_us;	   /* those that left are disconnected then, and the others tried again */
	uint64_t stranger_told_us; /* one that has no slot */
	uint64_t endpoint_told_us;
	uint64_t
		guest; /* can be answered, because it said where, and may be in no configuration known here; 0: there was none */
	bool removed;
	unsigned own_role;  /* in the configuration, as last reported */
	bool leader_missed; /* that there is no leader was reported, once for each time that one is lost */

	/* Feature level. */
	unsigned level;		  /* of the configuration in force */
	unsigned level_reported;  /* in the journal */
	uint64_t level_us;	  /* looked at again then; UINT64_MAX: there is nothing to raise */
	uint64_t too_old_told_us; /* about another member … */
	uint64_t too_new_told_us; /* … likewise */

	struct replica_taking taking;
	struct replica_receiving receiving;
	uint64_t receive_after_us; /* no other one is received before: there was no room, or the last one was refused */
	struct replica_restoring restoring;
	struct replica_refused refused;
	struct replica_sending sending;
	struct replica_room room;
	struct replica_divergence divergence;

	uint64_t elections;
	uint64_t proposals;
	uint64_t leased_reads;
	uint64_t bad_frames;
	uint64_t stale_frames; /* of an incarnation that is no member */
	uint64_t received_frames, received_bytes;
	uint64_t leader_changes;
	uint64_t snapshots_taken;
	uint64_t snapshots_installed;
};

/* update.c: one step of the core and everything that follows from it. entries: those that the event appends, NULL if none.
 * ret_index: of the first appended entry; may be NULL. Returns the core's result, or a negative errno, which is kept in
 * replica->failed when it came from the disk. */
int replica_step(struct replica *replica, const struct raft_event *event, const struct raft_entry *entries,
		 uint64_t *ret_index) __attribute__((warn_unused_result));

/* Entries stamped here from now on are not older than this. */
void replica_note_time(struct replica *replica, uint64_t time_ms);

/* start.c */
/* Before anything is promised, and before anything else happens to the directory. Results and message as replicator_new. */
int replica_begin_promises(struct replica *replica, char *message) __attribute__((warn_unused_result));
/* Opens the storage, with what heals a damaged directory, and loads the snapshot, or an older one where the state machine refuses
 * that; then makes the core and tells it the log. Results and message as replicator_new. */
int replica_start(struct replica *replica, uint64_t now_us, char *message) __attribute__((warn_unused_result));
int replica_result_from_storage(int r);

/* room.c */
/* False: the step may have to write more than there is room for. */
bool replica_has_room(const struct replica *replica, const struct raft_event *event);
uint64_t replica_tick_deadline_us(const struct replica *replica);
int replica_tick(struct replica *replica) __attribute__((warn_unused_result));
int replica_tend_room(struct replica *replica) __attribute__((warn_unused_result));
/* The core refused a proposal, for too much waits: if that is for this member's disk, the disk should get on. */
void replica_note_refusal(struct replica *replica);

/* damage.c: storage_read failed for this entry. The log heals itself, or replica->failed says that the member must stop. */
void replica_on_unreadable(struct replica *replica, uint64_t index, int error);

/* message.c */
void replica_send(struct replica *replica, const struct raft_message *message);
void replica_send_wire(struct replica *replica, const struct wire_message *wire);
/* The header of a message of this member to another one. Its term is 0: the newest one may not be durable yet, and only
 * the core knows when it may be told. */
struct wire_message replica_wire_message(const struct replica *replica, uint8_t type, uint64_t to);
/* Decodes a frame; its entries are replica->entries. False: it was counted as bad, or is not for this member. */
bool replica_decode(struct replica *replica, const uint8_t *frame, size_t len, struct wire_message *ret_wire);
/* False: it is not for the core. */
bool replica_message_from_wire(const struct wire_message *wire, struct raft_message *ret_message);

/* membership.c */
struct replica_peer *replica_find_peer(struct replica *replica, uint64_t id); /* NULL: a stranger, or this member */
unsigned replica_own_role(const struct replica *replica); /* enum replicator_member_role; 0: no member */
const struct raft_config *replica_config(const struct replica *replica, uint64_t *ret_index); /* in force; NULL: none */
/* True when the message comes from a data directory that is not the member's: as an answer it counts for nothing. */
bool replica_is_foreign(struct replica *replica, const struct wire_message *wire);
/* Of a message for the core, whether it is counted or not. */
void replica_note_named(struct replica *replica, const struct wire_message *wire);
/* It ends this leadership all the same. */
bool replica_unseats(const struct replica *replica, const struct wire_message *wire);
int replica_on_foreign_answer(struct replica *replica, const struct wire_message *wire) /* of that directory */
	__attribute__((warn_unused_result));
/* Asks the core for this configuration in place of the one of previous_index. Results as replicator_change. */
int replica_propose_config(struct replica *replica, const struct raft_config *config, uint64_t previous_index,
			   uint64_t *ret_index) __attribute__((warn_unused_result));
void replica_membership_start(struct replica *replica);
void replica_send_hello(struct replica *replica, uint64_t peer);
int replica_on_hello(struct replica *replica, const struct wire_message *wire) __attribute__((warn_unused_result));
void replica_on_not_a_member(struct replica *replica, const struct wire_message *wire);
void replica_on_endpoint(struct replica *replica, const struct wire_message *wire);
int replica_tend_membership(struct replica *replica) __attribute__((warn_unused_result));

/* level.c */
void replica_adopt_level(struct replica *replica, unsigned level);
/* False: it asks for more than this program knows, and must not be looked at; replica->failed may say that this ends here. */
bool replica_may_take(struct replica *replica, const struct wire_message *wire);
void replica_fail_level(struct replica *replica, unsigned level);
/* False: that member would misread the log, or may. */
bool replica_may_send_log(struct replica *replica, uint64_t peer);
/* Of a hello. False: its sender and this member cannot work together. */
bool replica_note_level(struct replica *replica, const struct wire_message *wire);
void replica_greet(struct replica *replica, struct replica_peer *peer);
/* What all of its members know, this one included; RAFT_LEVEL_MIN when one was not heard under the incarnation named. */
unsigned replica_level_of_all(struct replica *replica, const struct raft_config *config);
int replica_tend_level(struct replica *replica) __attribute__((warn_unused_result));

/* snapshot_take.c */
/* The log since the newest snapshot, in bytes, above which another one is due. */
uint64_t replica_snapshot_due_bytes(const struct replica *replica);
int replica_tend_taking(struct replica *replica) __attribute__((warn_unused_result));
/* When it wants to be called for the snapshot that is being taken; UINT64_MAX: when the disk has done something. */
uint64_t replica_taking_deadline_us(const struct replica *replica);
/* New entries wait for a snapshot that has not come nearer to its end for an election timeout. */
bool replica_log_waits_in_vain(const struct replica *replica);
void replica_taking_fini(struct replica *replica);

/* snapshot_send.c */
void replica_offer_snapshots(struct replica *replica, const uint64_t *peers, size_t n_peers);
void replica_on_snapshot_request(struct replica *replica, const struct wire_message *wire);
void replica_tend_sending(struct replica *replica);
void replica_sending_fini(struct replica *replica);

/* snapshot_install.c */
int replica_on_snapshot_offer(struct replica *replica, const struct wire_message *wire)
	__attribute__((warn_unused_result));
int replica_on_snapshot_chunk(struct replica *replica, const struct wire_message *wire)
	__attribute__((warn_unused_result));
/* Loads that snapshot of the disk whole, before anything else happens. Results and message as replicator_new, or REPLICA_E_REFUSED. */
int replica_load_snapshot(struct replica *replica, uint64_t index, struct raft_config *ret_config,
			  uint64_t *ret_config_index, char *message) __attribute__((warn_unused_result));
int replica_tend_installing(struct replica *replica) __attribute__((warn_unused_result));
/* This member has applied the log up to where the snapshot that it receives, or began to receive in an earlier life, would bring it:
 * that one is given up. */
void replica_drop_outrun(struct replica *replica);
void replica_installing_fini(struct replica *replica);

/* divergence.c: replica->failed says that this member must stop. */
void replica_note_checkpoint(struct replica *replica); /* after each entry that was applied */
void replica_on_checkpoint(struct replica *replica, const struct wire_message *wire);
void replica_tend_divergence(struct replica *replica);

/* status.c has replica_get_status, replica_get_membership and replica_read_log. */

void replica_log(const struct replica *replica, int level, const char *event, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The same, of an entry or snapshot or of another member; 0: of none. */
struct replica_about {
	uint64_t index;
	uint64_t peer;
};
void replica_log_about(const struct replica *replica, struct replica_about about, int level, const char *event,
		       const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
