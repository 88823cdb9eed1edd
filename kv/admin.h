/*
 * Bodies of the requests that only operators make (raftctl), and of the membership that bridges ask for. Pure functions
 * over bytes, little-endian; kv/request.h has the frames around them, README.md the tables.
 *
 * What this must not know: what the changes mean. A decoder trusts no length and no reserved byte.
 */
#ifndef KV_ADMIN_H
#define KV_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_ENDPOINT_MAX 200u /* characters */
#define KV_MEMBERS_MAX 15u

enum kv_member_role { KV_MEMBER_VOTER = 1, KV_MEMBER_LEARNER = 2, KV_MEMBER_JOINING = 3 };

struct kv_member {
	uint64_t id;
	uint64_t incarnation;
	uint8_t role; /* enum kv_member_role */
	char peer[KV_ENDPOINT_MAX + 1];
	char client[KV_ENDPOINT_MAX + 1];
};

/* Reply to KV_REQUEST_MEMBERS: index u64, committed u8, 3 zero, count u32; then for each member: id u64, incarnation u64,
 * role u8, 3 zero, peer size u16, client size u16, peer, client (unpadded). */
struct kv_membership {
	uint64_t index;
	bool committed;
	uint32_t count;
	struct kv_member members[KV_MEMBERS_MAX];
};
size_t kv_membership_size(const struct kv_membership *membership);
void kv_membership_encode(uint8_t *data, const struct kv_membership *membership); /* kv_membership_size bytes */
bool kv_membership_decode(const uint8_t *data, size_t size, struct kv_membership *ret_membership);

/* Body of KV_REQUEST_CHANGE: type u8, flags u8 (KV_CHANGE_STAY_LEARNER), peer size u16, client size u16, 2 zero, id u64,
 * if_index u64, peer, client (unpadded). Reply: KV_ANSWER_OK with number = index of the entry; KV_ANSWER_REFUSED with a
 * text. */
enum kv_change_type { KV_CHANGE_ADD = 1, KV_CHANGE_REMOVE = 2, KV_CHANGE_PROMOTE = 3, KV_CHANGE_MOVE = 4 };
#define KV_CHANGE_STAY_LEARNER 1u
struct kv_change {
	uint8_t type; /* enum kv_change_type */
	uint8_t flags;
	uint64_t id;
	/* Only if the membership is still the one of this index, which was seen committed; 0: whatever it is. */
	uint64_t if_index;
	char peer[KV_ENDPOINT_MAX + 1];
	char client[KV_ENDPOINT_MAX + 1];
};
size_t kv_change_size(const struct kv_change *change);
void kv_change_encode(uint8_t *body, const struct kv_change *change); /* kv_change_size bytes */
bool kv_change_decode(const uint8_t *body, size_t size, struct kv_change *ret_change);

/* Body of KV_REQUEST_BACKUP: pin u64 (0: take a snapshot and pin it), offset u64, size u32, 4 zero. Reply: KV_ANSWER_OK with
 * number = pin, data = size of the whole stream u64, then its bytes from offset on, none at its end; KV_ANSWER_NOT_FOUND: that
 * pin is gone, begin anew. A pin is the applied index of the state. */
#define KV_BACKUP_BODY_SIZE 24u
#define KV_BACKUP_DATA_HEADER_SIZE 8u
struct kv_backup_request {
	uint64_t pin;
	uint64_t offset;
	uint32_t size;
};
void kv_backup_encode(uint8_t *body, const struct kv_backup_request *request);
bool kv_backup_decode(const uint8_t *body, size_t size, struct kv_backup_request *ret_request);

/* Reply to KV_REQUEST_BEATS: id u64, role u64, term u64, leader u64, heartbeat_us u64, voters u64, newest u64, count u64; then for
 * each beat: number u64, term u64, age_us u64, quorum u64, quorum_us u64, answers u64, and for each answer: id u64, after_us u64. */
#define KV_BEATS_MAX 32u /* in one reply: some seconds' worth; who fell further behind asks again */
struct kv_beat {
	uint64_t number; /* increases by 1 while a member runs */
	uint64_t term;
	uint64_t age_us;    /* since it began */
	uint64_t quorum;    /* 1: enough voters have answered, the leader counted in … */
	uint64_t quorum_us; /* … so long after it began */
	uint64_t n_answers; /* in the order of their arrival; the leader itself is not among them */
	struct {
		uint64_t id;
		uint64_t after_us; /* since it began */
	} answers[KV_MEMBERS_MAX];
};
struct kv_beats {
	uint64_t id;
	uint64_t role; /* as in kv_member_status */
	uint64_t term;
	uint64_t leader;
	uint64_t heartbeat_us;
	uint64_t voters;
	uint64_t newest; /* number of the newest beat, 0: none since the start */
	uint64_t count;
	struct kv_beat beats[KV_BEATS_MAX];
};
#define KV_BEATS_BODY_SIZE 8u
void kv_beats_request_encode(uint8_t *body, uint64_t after);
bool kv_beats_request_decode(const uint8_t *body, size_t size, uint64_t *ret_after);
size_t kv_beats_size(const struct kv_beats *beats);
void kv_beats_encode(uint8_t *data, const struct kv_beats *beats); /* kv_beats_size bytes */
bool kv_beats_decode(const uint8_t *data, size_t size, struct kv_beats *ret_beats);

/* What a member finds when it looks at itself: bits of kv_member_status.failed_checks. */
enum kv_check {
	KV_CHECK_DISK = 1,	/* no write is older than any disk that works would make it */
	KV_CHECK_RECOVERED = 2, /* its state is whole: no snapshot is being loaded */
	KV_CHECK_MEMBER = 4,	/* it belongs to a cluster */
	KV_CHECK_LEADER = 8,	/* it knows a leader */
	KV_CHECK_APPLIED = 16,	/* it has applied almost all that it knows to be committed */
};
#define KV_CHECKS_LIVE 1u /* fails: to be killed and started again, if that helps */
#define KV_CHECKS_READY 31u
/* "leader: known", "leader: none is known". */
const char *kv_check_text(uint64_t check, bool failed);

/* Bits of kv_member_status.alarms: what an operator has to do something about. */
enum kv_alarm {
	KV_ALARM_DISK_FULL = 1,	   /* no room for more log: writes are refused until there is */
	KV_ALARM_DISK_STALLED = 2, /* the disk has not answered for longer than an election timeout */
};
const char *kv_alarm_name(uint64_t alarm);

#endif
