/*
 * Which sections and keys raft.conf has, and what each value may be: one table, from which reading, messages and the
 * check for unknown keys follow.
 *
 * What this must not know: files, line numbers, iniparser, how values relate to one another.
 */
#ifndef RAFT_KV_CONFIG_SCHEMA_H
#define RAFT_KV_CONFIG_SCHEMA_H

#include "daemon/config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHEMA_WHY_MAX 400u

enum schema_section { SCHEMA_CLUSTER, SCHEMA_MEMBER, SCHEMA_RAFT, SCHEMA_BRIDGE };

struct schema_field;

/* What a section's name stands for. *ret_id: of a member. False: *ret_why, a static text, says what is allowed. */
bool schema_find_section(const char *name, enum schema_section *ret_section, uint64_t *ret_id, const char **ret_why);

/* The field of this name, or NULL. */
const struct schema_field *schema_find_field(enum schema_section section, const char *key);

/* The keys of a section, separated by commas. Returns ret. */
const char *schema_list_keys(enum schema_section section, char *ret, size_t ret_size);

/* Puts the value into *config, or into *member for a field of [member N] (otherwise NULL is fine). False: ret_why says what is
 * wrong and what is allowed; nothing changed. */
bool schema_set(const struct schema_field *field, const char *value, struct config *config,
		struct config_member *member, char ret_why[SCHEMA_WHY_MAX]);

/* Calls report for every key of the section whose value differs. a, b: two struct config_member for SCHEMA_MEMBER, otherwise two
 * struct config. */
void schema_compare(enum schema_section section, const void *a, const void *b,
		    void (*report)(void *arg, const char *key), void *arg);

/* What config.h documents for keys that are not given. */
void schema_set_defaults(struct config *config);

#endif
