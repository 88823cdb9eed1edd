/* The register: what each operation demands and leaves behind. */
#include "tests/linearizability/register.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void *lin_alloc(size_t count, size_t size)
{
	void *memory = calloc(count == 0 ? 1 : count, size);
	if (memory == NULL) {
		fputs("linearizability: out of memory\n", stderr);
		abort();
	}
	return memory;
}

void *lin_grow(void *array, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return array;
	*capacity = *capacity == 0 ? 16 : 2 * *capacity;
	array = reallocarray(array, *capacity, size);
	if (array == NULL) {
		fputs("linearizability: out of memory\n", stderr);
		abort();
	}
	return array;
}

/* Writing. Revisions grow with every change, so a change whose revision is not told still raises what the next must exceed. */
static const char *register_write(const struct lin_state *state, uint64_t value, uint64_t revision,
				  struct lin_state *ret_state)
{
	if (revision != LIN_REVISION_NONE && revision <= state->revision)
		return "its revision is not above that of an earlier change";
	bool told = revision != LIN_REVISION_NONE;
	*ret_state = (struct lin_state){
		.value = value, .revision = told ? revision : state->revision + 1, .exact = told && value != 0};
	return NULL;
}

/* Somebody saw that the key, which exists, has this revision. */
static const char *register_see_revision(const struct lin_state *state, uint64_t revision, struct lin_state *ret_state)
{
	assert(state->value != 0);
	*ret_state = *state;
	if (revision == LIN_REVISION_NONE)
		return NULL;
	if (state->exact ? revision != state->revision : revision < state->revision)
		return "the revision that it saw is not the register's";
	ret_state->revision = revision;
	ret_state->exact = true;
	return NULL;
}

static const char *apply_get(const struct lin_operation *operation, const struct lin_state *state,
			     struct lin_state *ret_state)
{
	*ret_state = *state;
	if (operation->result.outcome == LIN_NOT_FOUND)
		return state->value == 0 ? NULL : "it found nothing, but the key exists";
	if (state->value == 0)
		return "it read a value, but the key does not exist";
	if (state->value != operation->reads)
		return "it read another value than the register holds";
	return register_see_revision(state, operation->result.revision, ret_state);
}

static const char *apply_delete(const struct lin_operation *operation, bool fate_known, const struct lin_state *state,
				struct lin_state *ret_state)
{
	if (fate_known && operation->result.outcome == LIN_NOT_FOUND) {
		*ret_state = *state;
		return state->value == 0 ? NULL : "it found nothing to delete, but the key exists";
	}
	if (state->value == 0)
		return "it deleted the key, but the key does not exist";
	return register_write(state, 0, fate_known ? operation->result.revision : LIN_REVISION_NONE, ret_state);
}

static const char *apply_cas(const struct lin_operation *operation, bool fate_known, const struct lin_state *state,
			     struct lin_state *ret_state)
{
	struct lin_state seen = *state;
	if (operation->call.expects_value) {
		if (state->value != operation->wants)
			return "it succeeded, but the register does not hold the value that it wants";
	} else if (operation->call.expected == 0) {
		if (state->value != 0)
			return "it succeeded and wants no such key, but the key exists";
	} else {
		if (state->value == 0)
			return "it succeeded, but the key does not exist";
		if (register_see_revision(state, operation->call.expected, &seen) != NULL)
			return "it succeeded, but the register does not have the revision that it wants";
	}
	return register_write(&seen, operation->writes, fate_known ? operation->result.revision : LIN_REVISION_NONE,
			      ret_state);
}

static const char *apply_mismatch(const struct lin_operation *operation, const struct lin_state *state,
				  struct lin_state *ret_state)
{
	uint64_t found = operation->result.revision;
	uint64_t expected = operation->call.expected;
	*ret_state = *state;
	if (operation->call.expects_value ? state->value == operation->wants : expected == 0 && state->value == 0)
		return "it failed, but the register holds what it wants";
	if (found == 0)
		return state->value == 0 ? NULL : "it found no such key, but the key exists";
	if (found != LIN_REVISION_NONE) {
		if (state->value == 0)
			return "it found the key with a revision, but the key does not exist";
		if (!operation->call.expects_value && found == expected)
			return "it failed, but found what it wants";
		return register_see_revision(state, found, ret_state);
	}
	if (!operation->call.expects_value && state->value != 0 && state->exact && state->revision == expected)
		return "it failed, but the register has the revision that it wants";
	return NULL;
}

const char *lin_apply(const struct lin_operation *operation, bool fate_known, const struct lin_state *state,
		      struct lin_state *ret_state)
{
	switch (operation->call.kind) {
	case LIN_GET:
		assert(fate_known);
		return apply_get(operation, state, ret_state);
	case LIN_PUT:
		return register_write(state, operation->writes,
				      fate_known ? operation->result.revision : LIN_REVISION_NONE, ret_state);
	case LIN_DELETE:
		return apply_delete(operation, fate_known, state, ret_state);
	case LIN_CAS:
		if (fate_known && operation->result.outcome == LIN_MISMATCH)
			return apply_mismatch(operation, state, ret_state);
		return apply_cas(operation, fate_known, state, ret_state);
	}
	abort();
}

bool lin_same_state(const struct lin_state *a, const struct lin_state *b)
{
	return a->value == b->value && a->revision == b->revision && a->exact == b->exact;
}

/* Whether the operation, ending as it did, left the register as it was. */
static bool only_reads(const struct lin_operation *operation, bool fate_known)
{
	return fate_known && (operation->call.kind == LIN_GET || operation->result.outcome != LIN_OK);
}

bool lin_sees_change(const struct lin_operation *operation, bool fate_known, const struct lin_state *before,
		     const struct lin_state *after)
{
	struct lin_state with;
	struct lin_state without;
	if (lin_apply(operation, fate_known, after, &with) != NULL)
		return false;
	if (lin_apply(operation, fate_known, before, &without) != NULL)
		return true;
	return only_reads(operation, fate_known) && !(lin_same_state(&with, after) && lin_same_state(&without, before));
}

uint64_t lin_revision_limit(const struct lin_operation *operation)
{
	uint64_t told = operation->result.revision;
	if (only_reads(operation, true))
		return told == 0 ? LIN_REVISION_NONE : told;
	if (operation->call.kind == LIN_CAS && !operation->call.expects_value && operation->call.expected != 0)
		return operation->call.expected;
	return told == LIN_REVISION_NONE ? LIN_REVISION_NONE : told - 1;
}

/* Operations ----------------------------------------------------------------------------------------------------------- */

static struct lin_bytes copy_bytes(struct lin_bytes bytes)
{
	char *copy = lin_alloc(bytes.size, 1);
	if (bytes.size > 0)
		memcpy(copy, bytes.data, bytes.size);
	return (struct lin_bytes){.data = copy, .size = bytes.size};
}

/* 0 means that there is no value. */
static uint64_t hash_value(struct lin_bytes bytes)
{
	uint64_t hash = XXH3_64bits(bytes.data, bytes.size);
	return hash == 0 ? 1 : hash;
}

struct lin_operation *lin_operation_new(const struct lin_call *call, uint64_t called, uint64_t number)
{
	struct lin_operation *operation = lin_alloc(1, sizeof *operation);
	operation->call = *call;
	operation->call.value = operation->call.wanted = (struct lin_bytes){0};
	operation->result.outcome = LIN_UNKNOWN;
	operation->result.revision = LIN_REVISION_NONE;
	operation->called = called;
	operation->returned = LIN_NEVER;
	operation->open = true;
	if (call->kind == LIN_PUT || call->kind == LIN_CAS) {
		operation->call.value = copy_bytes(call->value);
		operation->writes = hash_value(operation->call.value);
	}
	if (call->kind == LIN_CAS && call->expects_value) {
		operation->call.wanted = copy_bytes(call->wanted);
		operation->wants = hash_value(operation->call.wanted);
	}
	uint64_t parts[] = {(uint64_t)call->kind, operation->writes, operation->wants,
			    call->kind == LIN_CAS && !call->expects_value ? call->expected : LIN_REVISION_NONE};
	operation->effect = XXH3_64bits(parts, sizeof parts);
	operation->mark = XXH3_128bits(&number, sizeof number);
	return operation;
}

void lin_operation_return(struct lin_operation *operation, const struct lin_return *outcome, uint64_t returned)
{
	assert(operation->open && lin_outcome_fits(operation->call.kind, outcome->outcome));
	operation->open = false;
	operation->result = *outcome;
	operation->result.value = (struct lin_bytes){0};
	if (outcome->outcome != LIN_UNKNOWN)
		operation->returned = returned;
	if (operation->call.kind == LIN_GET && outcome->outcome == LIN_OK) {
		operation->result.value = copy_bytes(outcome->value);
		operation->reads = hash_value(operation->result.value);
	}
}

struct lin_operation *lin_operation_free(struct lin_operation *operation)
{
	if (operation == NULL)
		return NULL;
	free((void *)operation->call.value.data);
	free((void *)operation->call.wanted.data);
	free((void *)operation->result.value.data);
	free(operation);
	return NULL;
}

bool lin_outcome_fits(enum lin_kind kind, enum lin_outcome outcome)
{
	switch (outcome) {
	case LIN_OK:
	case LIN_FAILED:
	case LIN_UNKNOWN:
		return true;
	case LIN_NOT_FOUND:
		return kind == LIN_GET || kind == LIN_DELETE;
	case LIN_MISMATCH:
		return kind == LIN_CAS;
	}
	return false;
}

/* For people ----------------------------------------------------------------------------------------------------------- */

#define BYTES_SHOWN 40u

void lin_write_bytes(struct lin_bytes bytes, FILE *file)
{
	const unsigned char *data = bytes.data;
	fputc('"', file);
	for (size_t k = 0; k < bytes.size && k < BYTES_SHOWN; k++) {
		if (data[k] == '"' || data[k] == '\\')
			fprintf(file, "\\%c", data[k]);
		else if (isprint(data[k]))
			fputc(data[k], file);
		else
			fprintf(file, "\\x%02x", data[k]);
	}
	fprintf(file, bytes.size > BYTES_SHOWN ? "…\" (%zu bytes)" : "\"", bytes.size);
}

static void write_revision(uint64_t revision, FILE *file)
{
	if (revision != LIN_REVISION_NONE)
		fprintf(file, " revision %" PRIu64, revision);
}

static void write_call(const struct lin_call *call, FILE *file)
{
	static const char *const names[] = {"get", "put", "delete", "cas"};
	fputs(names[call->kind], file);
	if (call->kind == LIN_CAS && call->expects_value) {
		fputs(" if ", file);
		lin_write_bytes(call->wanted, file);
	} else if (call->kind == LIN_CAS) {
		fprintf(file, " if revision %" PRIu64, call->expected);
	}
	if (call->kind == LIN_CAS)
		fputs(" to", file);
	if (call->kind == LIN_PUT || call->kind == LIN_CAS) {
		fputc(' ', file);
		lin_write_bytes(call->value, file);
	}
}

void lin_write_operation(const struct lin_operation *operation, bool fate_known, FILE *file)
{
	const struct lin_return *result = &operation->result;
	fprintf(file, "client %" PRIu64 " ", operation->call.client);
	write_call(&operation->call, file);
	if (!fate_known) {
		fprintf(file, ", asked at %" PRIu64 ", fate unknown", operation->call.time);
		return;
	}
	fputs(": ", file);
	switch (result->outcome) {
	case LIN_OK:
		if (operation->call.kind == LIN_GET)
			lin_write_bytes(result->value, file);
		else
			fputs("ok", file);
		break;
	case LIN_NOT_FOUND:
		fputs("not found", file);
		break;
	case LIN_MISMATCH:
		fputs("mismatch", file);
		break;
	case LIN_FAILED:
		fputs("failed", file);
		break;
	case LIN_UNKNOWN:
		fputs("unknown", file);
		break;
	}
	write_revision(result->revision, file);
	fprintf(file, ", from %" PRIu64 " to %" PRIu64, operation->call.time, result->time);
}
