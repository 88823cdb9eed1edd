/*
 * Writes one JSON document (RFC 8259) to a file: commas, escapes and nothing else. The caller calls begin and end in
 * pairs; keys are NULL inside an array.
 */
#ifndef RAFTCTL_JSON_H
#define RAFTCTL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *file;
	bool comma; /* the next element of the innermost object or array needs one */
};

void json_begin_object(struct json *json, const char *key);
void json_end_object(struct json *json);
void json_begin_array(struct json *json, const char *key);
void json_end_array(struct json *json);
void json_u64(struct json *json, const char *key, uint64_t value);
void json_milli(struct json *json, const char *key, uint64_t thousandths); /* as a number with three decimals */
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);
void json_hex(struct json *json, const char *key, uint64_t value); /* a string of 16 digits: 64 bits are too many for
								    * readers that have only doubles */
/* Bytes that are no UTF-8 are replaced by U+FFFD, as JSON has no other place for them. */
void json_string(struct json *json, const char *key, const char *text);

#endif
