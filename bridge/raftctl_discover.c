/*
 * Who the members are: the log decides, not the configuration file, so whoever can be reached by the file is asked
 * first. Nobody answers in time: the file has to do. What this must not know: what the commands ask afterwards.
 */
#include "raftctl.h"
#include "raftctl_link.h"

#include "kv/admin.h"

#include <string.h>

#define DISCOVER_US 500000u

/* Replaces the members of the file by those of the cluster; data directories are known only from the file. */
static void take_membership(struct config *config, const struct kv_membership *membership)
{
	struct config before = *config;
	config->n_members = 0;
	for (uint32_t k = 0; k < membership->count; k++) {
		const struct kv_member *from = &membership->members[k];
		const struct config_member *known = config_find_member(&before, from->id);
		struct config_member *to = &config->members[config->n_members++];
		*to = (struct config_member){.id = from->id};
		if (known != NULL)
			*to = *known;
		if (from->peer[0] != '\0')
			memcpy(to->peer, from->peer, sizeof from->peer);
		if (from->client[0] != '\0')
			memcpy(to->client, from->client, sizeof from->client);
	}
}

/* Asks every link that comes up; the first membership decides. */
static bool ask_members(struct ctl_links *links, uint64_t deadline_us, struct kv_membership *ret)
{
	struct ctl_event event;
	unsigned down = 0;
	while (ctl_links_wait(links, deadline_us, &event) == 0) {
		switch (event.news) {
		case CTL_NEWS_NONE:
			return false;
		case CTL_NEWS_UP:
			(void)ctl_links_send(links, event.link, KV_REQUEST_MEMBERS, NULL, 0);
			break;
		case CTL_NEWS_DOWN:
			down++;
			break;
		case CTL_NEWS_REPLY:
			if (event.answer.answer == KV_ANSWER_OK &&
			    kv_membership_decode(event.answer.data, event.answer.size, ret) && ret->count > 0)
				return true;
			break;
		}
		if (down >= links->n)
			return false;
	}
	return false;
}

void ctl_discover(struct ctl *ctl)
{
	_Static_assert(CONFIG_ENDPOINT_MAX == KV_ENDPOINT_MAX, "what a member tells fits the configuration");
	_Static_assert(RAFT_MEMBERS_MAX == KV_MEMBERS_MAX, "and all of them do");
	struct ctl_links links;
	uint64_t patience = (uint64_t)ctl->options.timeout_ms * 1000u;
	if (ctl_links_open(&ctl->config, 0, &links) == 0 &&
	    ask_members(&links, ctl_now_us() + (patience < DISCOVER_US ? patience : DISCOVER_US), &ctl->membership))
		take_membership(&ctl->config, &ctl->membership);
	ctl_links_close(&links);
}
