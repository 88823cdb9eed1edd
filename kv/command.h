/*
 * What travels in a log entry: one command of the store, encoded. Pure functions over bytes.
 *
 * Little-endian, fixed header of 48 bytes, then the key, then the value:
 *
 *   offset size field
 *   0      1    version (KV_COMMAND_VERSION)
 *   1      1    operation (enum kv_operation)
 *   2      2    key size
 *   4      4    value size
 *   8      8    session id (0: no session, for KV_REGISTER)
 *   16     8    sequence number in the session, from 1
 *   24     8    acknowledged: the client has the replies of all sequence numbers below this
 *   32     8    expected revision (KV_CAS; 0: the key must not exist); KV_REGISTER: the client's nonce
 *   40     8    reserved, zero
 *
 * The entry itself is protected by the checksum of its log record.
 */
#ifndef KV_COMMAND_H
#define KV_COMMAND_H

#include "limits.h"

#include <stddef.h>
#include <stdint.h>

#define KV_COMMAND_VERSION 1u
#define KV_COMMAND_HEADER_SIZE 48u
#define KV_COMMAND_SIZE_MAX (KV_COMMAND_HEADER_SIZE + KV_KEY_SIZE_MAX + KV_VALUE_SIZE_MAX)

enum kv_operation {
	KV_REGISTER = 1, /* opens a session; its id is the index of the entry */
	KV_PUT = 2,
	KV_DELETE = 3,
	KV_CAS = 4,
	KV_NOTHING = 5, /* takes a sequence number and changes nothing: fills the place of an abandoned request */
};
const char *kv_operation_name(uint8_t operation); /* "put" …, or NULL */

struct kv_command {
	uint8_t operation;
	uint64_t session;
	uint64_t sequence;
	uint64_t acknowledged;
	uint64_t expected;  /* KV_CAS: revision; KV_REGISTER: nonce */
	const uint8_t *key; /* not owned */
	uint16_t key_size;
	const uint8_t *value; /* not owned */
	uint32_t value_size;
};

/* Why a command cannot be decoded. The store answers such an entry with KV_BAD_COMMAND on every member alike. */
enum kv_decode_result {
	KV_DECODE_OK = 0,
	KV_DECODE_SHORT = 1,   /* lengths do not match the bytes */
	KV_DECODE_VERSION = 2, /* newer than this program knows */
	KV_DECODE_FORMAT = 3,  /* unknown operation, a size over the limit, an empty key, a set reserved byte */
};

size_t kv_command_size(const struct kv_command *command);
void kv_command_encode(const struct kv_command *command, uint8_t *buf);		      /* kv_command_size bytes */
int kv_command_decode(const uint8_t *buf, size_t len, struct kv_command *ret_command) /* points into buf */
	__attribute__((warn_unused_result));

#endif
