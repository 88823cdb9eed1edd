/*
 * raftctl get, put, delete, transfer: one question to the leader each. A write registers a session of its own first, so
 * that asking again, whoever leads by then, changes the store once.
 */
#include "raftctl.h"
#include "raftctl_call.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void begin(struct ctl *ctl, struct ctl_links *links, struct ctl_call *ret_call)
{
	*ret_call = (struct ctl_call){.links = links,
				      .deadline_us = ctl_now_us() + (uint64_t)ctl->options.timeout_ms * 1000u};
}

static int check_key(const char *key)
{
	size_t size = strlen(key);
	if (size >= 1 && size <= KV_KEY_SIZE_MAX)
		return CTL_OK;
	return ctl_fail(CTL_USAGE, "a key has 1 to %u bytes, this one %zu", KV_KEY_SIZE_MAX, size);
}

/* get ------------------------------------------------------------------------------------------------- */

static int print_value(const struct kv_answer_body *answer, const char *key)
{
	if (answer->answer == KV_ANSWER_NOT_FOUND)
		return ctl_fail(CTL_NEGATIVE, "not found: %s", key);
	if (answer->answer != KV_ANSWER_OK)
		return ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(answer->answer));
	(void)fwrite(answer->data, 1, answer->size, stdout); /* main checks stdout once, at the end */
	if (isatty(STDOUT_FILENO) == 1)
		(void)putchar('\n'); /* a person's prompt starts a line; a script gets the exact bytes */
	return CTL_OK;
}

int ctl_get(struct ctl *ctl)
{
	const char *key = ctl->arguments[0];
	int code = check_key(key);
	if (code != CTL_OK)
		return code;
	if (ctl->options.id != 0 && !ctl->options.stale)
		return ctl_fail(CTL_USAGE, "get asks the leader; with -s it can ask --id");
	uint8_t body[KV_GET_BODY_SIZE(KV_KEY_SIZE_MAX)];
	size_t key_size = strlen(key);
	kv_get_encode(body, ctl->options.stale ? KV_GET_STALE : 0, (const uint8_t *)key, key_size);
	struct ctl_question question = {.type = KV_REQUEST_GET, .body = body, .size = KV_GET_BODY_SIZE(key_size)};
	struct kv_answer_body answer;
	struct ctl_links links;
	struct ctl_call call;
	begin(ctl, &links, &call);
	code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, ctl->options.id, &links) == 0)
		code = ctl->options.stale ? ctl_call_any(&call, &question, &answer)
					  : ctl_call_leader(&call, &question, &answer);
	if (code == CTL_OK)
		code = print_value(&answer, key);
	ctl_links_close(&links);
	return code;
}

/* put, delete ----------------------------------------------------------------------------------------- */

/* Sends one command through the log. CTL_OK and the store's reply, or an exit code after saying why. */
static int call_command(struct ctl_call *call, const struct kv_command *command, struct kv_reply *ret_reply)
{
	size_t size = kv_command_size(command);
	raft_assert(size <= KV_COMMAND_SIZE_MAX);
	uint8_t *body = malloc(size);
	if (body == NULL)
		return ctl_fail(CTL_FAILED, "out of memory");
	kv_command_encode(command, body);
	struct ctl_question question = {.type = KV_REQUEST_COMMAND,
					.body = body,
					.size = (uint32_t)size,
					.write = command->operation != KV_REGISTER};
	struct kv_answer_body answer;
	int code = ctl_call_leader(call, &question, &answer);
	if (code == CTL_OK && answer.answer != KV_ANSWER_OK)
		code = ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(answer.answer));
	if (code == CTL_OK)
		*ret_reply = (struct kv_reply){.status = answer.status, .revision = answer.number};
	free(body);
	return code;
}

static int register_session(struct ctl_call *call, uint64_t *ret_session)
{
	uint64_t nonce;
	if (getrandom(&nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
		return ctl_fail(CTL_FAILED, "no random numbers: %s", strerror(errno));
	struct kv_command command = {.operation = KV_REGISTER, .expected = nonce};
	struct kv_reply reply;
	int code = call_command(call, &command, &reply);
	if (code == CTL_OK && reply.status != KV_OK)
		return ctl_fail(CTL_FAILED, "no session was opened: %s", kv_status_name(reply.status));
	if (code == CTL_OK)
		*ret_session = reply.revision;
	return code;
}

static int print_reply(const struct kv_reply *reply, const char *key)
{
	if (reply->status == KV_NOT_FOUND)
		return ctl_fail(CTL_NEGATIVE, "not found: %s", key);
	if (reply->status != KV_OK)
		return ctl_fail(CTL_FAILED, "refused by the store: %s", kv_status_name(reply->status));
	printf("OK %llu\n", (unsigned long long)reply->revision);
	return CTL_OK;
}

static int write_key(struct ctl *ctl, struct kv_command *command)
{
	const char *key = ctl->arguments[0];
	int code = check_key(key);
	if (code != CTL_OK)
		return code;
	if (ctl->options.id != 0)
		return ctl_fail(CTL_USAGE, "writes go through the leader: leave --id away");
	command->key = (const uint8_t *)key;
	command->key_size = (uint16_t)strlen(key);
	command->sequence = 1;
	command->acknowledged = 1;
	struct kv_reply reply;
	struct ctl_links links;
	struct ctl_call call;
	begin(ctl, &links, &call);
	code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, 0, &links) == 0)
		code = register_session(&call, &command->session);
	if (code == CTL_OK)
		code = call_command(&call, command, &reply);
	ctl_links_close(&links);
	return code == CTL_OK ? print_reply(&reply, key) : code;
}

/* All of stdin. CTL_OK, the bytes (to be freed) and their number. */
static int read_value(uint8_t **ret_value, size_t *ret_size)
{
	uint8_t *value = malloc(KV_VALUE_SIZE_MAX + 1u);
	if (value == NULL)
		return ctl_fail(CTL_FAILED, "out of memory");
	size_t size = fread(value, 1, KV_VALUE_SIZE_MAX + 1u, stdin);
	if (ferror(stdin) != 0) {
		free(value);
		return ctl_fail(CTL_FAILED, "cannot read stdin: %s", strerror(errno));
	}
	*ret_value = value;
	*ret_size = size;
	return CTL_OK;
}

int ctl_put(struct ctl *ctl)
{
	struct kv_command command = {.operation = KV_PUT};
	const char *text = ctl->arguments[1];
	uint8_t *read = NULL;
	size_t size = strlen(text);
	command.value = (const uint8_t *)text;
	if (strcmp(text, "-") == 0) {
		int code = read_value(&read, &size);
		if (code != CTL_OK)
			return code;
		command.value = read;
	}
	command.value_size = (uint32_t)size;
	int code = CTL_USAGE;
	if (size > KV_VALUE_SIZE_MAX)
		(void)ctl_fail(CTL_USAGE, "a value has at most %u bytes", KV_VALUE_SIZE_MAX);
	else
		code = write_key(ctl, &command);
	free(read);
	return code;
}

int ctl_delete(struct ctl *ctl)
{
	struct kv_command command = {.operation = KV_DELETE};
	return write_key(ctl, &command);
}

/* transfer -------------------------------------------------------------------------------------------- */

/* The hand-over has begun: waits until it is done. */
static int await_successor(struct ctl_call *call, uint64_t old)
{
	uint64_t leader;
	uint64_t term;
	int code = ctl_call_find_leader(call, old, &leader, &term);
	if (code == CTL_OK)
		printf("leader %llu, term %llu\n", (unsigned long long)leader, (unsigned long long)term);
	return code;
}

static int transfer_to(struct ctl_call *call, uint64_t target)
{
	uint64_t old;
	uint64_t term;
	int code = ctl_call_find_leader(call, 0, &old, &term);
	if (code != CTL_OK)
		return code;
	if (old == target) {
		printf("leader %llu, term %llu\n", (unsigned long long)old, (unsigned long long)term);
		return CTL_OK;
	}
	uint8_t body[KV_TRANSFER_BODY_SIZE];
	kv_transfer_encode(body, target);
	struct ctl_question question = {.type = KV_REQUEST_TRANSFER, .body = body, .size = sizeof body};
	struct kv_answer_body answer;
	code = ctl_call_leader(call, &question, &answer);
	if (code != CTL_OK)
		return code;
	old = call->links->links[call->link].member->id;
	if (answer.answer != KV_ANSWER_OK)
		return ctl_fail(CTL_FAILED,
				"member %llu, which leads, refused: no such successor, or none is up to date",
				(unsigned long long)old);
	return await_successor(call, old);
}

int ctl_transfer(struct ctl *ctl)
{
	uint64_t target = 0;
	if (ctl->n_arguments == 1 && (!config_parse_u64(ctl->arguments[0], 1, INT64_MAX, &target) ||
				      config_find_member(&ctl->config, target) == NULL))
		return ctl_fail(CTL_USAGE, "%s has no [member %s]", ctl->options.config_path, ctl->arguments[0]);
	if (ctl->options.id != 0)
		return ctl_fail(CTL_USAGE, "transfer asks the leader: leave --id away; transfer N names its successor");
	struct ctl_links links;
	struct ctl_call call;
	int code = CTL_FAILED;
	begin(ctl, &links, &call);
	if (ctl_links_open(&ctl->config, 0, &links) == 0)
		code = transfer_to(&call, target);
	ctl_links_close(&links);
	return code;
}
