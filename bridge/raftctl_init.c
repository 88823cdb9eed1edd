/*
 * raftctl init: writes a raft.conf for a layout other than that of the sample, which it takes its comments from: several
 * members on this host, or one on each of several hosts. What it writes is read back as raftd would before it gets its
 * name. What this must not know: the keys of raft.conf but for those of a member.
 */
#include "raftctl.h"

#include "daemon/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME_DEFAULT "example"
#define PEER_PORT 7400u /* and the member's number */
#define CLIENT_PORT 7500u
#define PATH_MAX_HERE 4200u

/* packaging/raft.conf as it was when this was built. */
static const char sample[] =
#include "raft_conf.inc"
	;
/* Where the sample's members begin and end, and where its name stands. */
static const char members_begin[] = "\n[member 1]\n";
static const char members_end[] = "\n# Everything below is optional";
static const char sample_name[] = "\nname = " NAME_DEFAULT "\n";

struct layout {
	const char *name;
	unsigned n;
	const char *hosts[RAFT_MEMBERS_MAX];
	bool here; /* all on this host, by the loopback interface */
};

static int parse_layout(const struct ctl *ctl, struct layout *ret)
{
	uint64_t count;
	struct layout layout = {.name = ctl->options.name != NULL ? ctl->options.name : NAME_DEFAULT};
	if (ctl->n_arguments == 1 && strspn(ctl->arguments[0], "0123456789") == strlen(ctl->arguments[0])) {
		if (!config_parse_u64(ctl->arguments[0], 1, RAFT_MEMBERS_MAX, &count))
			return ctl_fail(CTL_USAGE, "a cluster has 1 to %u members, not %s", RAFT_MEMBERS_MAX,
					ctl->arguments[0]);
		layout.n = (unsigned)count;
		layout.here = true;
		for (unsigned k = 0; k < layout.n; k++)
			layout.hosts[k] = "127.0.0.1";
	} else {
		raft_assert(ctl->n_arguments > 0 && (unsigned)ctl->n_arguments <= RAFT_MEMBERS_MAX);
		layout.n = (unsigned)ctl->n_arguments;
		for (unsigned k = 0; k < layout.n; k++)
			layout.hosts[k] = ctl->arguments[k];
	}
	*ret = layout;
	return CTL_OK;
}

static void write_member(FILE *file, unsigned id, const char *host)
{
	bool ipv6 = strchr(host, ':') != NULL && host[0] != '[';
	const char *open = ipv6 ? "[" : "";
	const char *close = ipv6 ? "]" : "";
	fprintf(file, "\n[member %u]\npeer = tcp://%s%s%s:%u\nclient = tcp://%s%s%s:%u\n", id, open, host, close,
		PEER_PORT + id, open, host, close, CLIENT_PORT + id);
}

/* The sample with the layout's name and members in the places of its own. */
static void write_layout(FILE *file, const struct layout *layout)
{
	const char *name = strstr(sample, sample_name);
	const char *begin = strstr(sample, members_begin);
	const char *end = strstr(sample, members_end);
	raft_assert(name != NULL && begin != NULL && end != NULL && name < begin && begin < end);
	const char *after_name = name + strlen(sample_name);
	fwrite(sample, 1, (size_t)(name - sample), file);
	fprintf(file, "\nname = %s\n", layout->name);
	fwrite(after_name, 1, (size_t)(begin - after_name), file);
	for (unsigned k = 0; k < layout->n; k++)
		write_member(file, k + 1, layout->hosts[k]);
	fputs(end, file);
}

static int write_file(const char *path, const struct layout *layout)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	if (file == NULL) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		return ctl_fail(CTL_FAILED, "cannot write %s: %s", path, strerror(error));
	}
	write_layout(file, layout);
	bool failed = fflush(file) != 0 || fsync(fd) < 0;
	int error = errno;
	failed = fclose(file) != 0 || failed;
	return failed ? ctl_fail(CTL_FAILED, "cannot write %s: %s", path, strerror(error)) : CTL_OK;
}

static void report_mistake(void *arg, const char *line)
{
	(void)arg;
	(void)fprintf(stderr, "%s\n", line);
}

/* Gives the file its name: never over another one, unless that is wanted. */
static int publish(const char *from, const char *to, bool force)
{
	int r = force ? rename(from, to) : link(from, to);
	if (r == 0)
		return CTL_OK;
	if (errno == EEXIST)
		return ctl_fail(CTL_FAILED, "%s exists and stays as it is; --force replaces it", to);
	return ctl_fail(CTL_FAILED, "cannot write %s: %s", to, strerror(errno));
}

static void print_next_steps(const char *path, const struct layout *layout)
{
	printf("%s: %u members of cluster %s\n", path, layout->n, layout->name);
	if (layout->here) {
		printf("start them:  systemctl enable --now raft@{1..%u}\n", layout->n);
		return;
	}
	printf("copy it to every host, then start each member on its own:\n");
	for (unsigned k = 0; k < layout->n; k++)
		printf("  %s:  systemctl enable --now raft@%u\n", layout->hosts[k], k + 1);
}

int ctl_init(struct ctl *ctl)
{
	static struct config config;
	struct layout layout = {.n = 0};
	char path[PATH_MAX_HERE];
	const char *target = ctl->options.config_path;
	int code = parse_layout(ctl, &layout);
	if (code != CTL_OK)
		return code;
	if (snprintf(path, sizeof path, "%s.new", target) >= (int)sizeof path)
		return ctl_fail(CTL_USAGE, "the path of the configuration is too long");
	if (!ctl->options.force && access(target, F_OK) == 0)
		return ctl_fail(CTL_FAILED, "%s exists and stays as it is; --force replaces it", target);
	code = write_file(path, &layout);
	if (code == CTL_OK && config_read(path, &config, report_mistake, NULL) != 0)
		code = ctl_fail(CTL_USAGE, "nothing is written: raftd would not take it");
	if (code == CTL_OK)
		code = publish(path, target, ctl->options.force);
	(void)unlink(path); /* gone already, if it has its name by now */
	if (code == CTL_OK)
		print_next_steps(target, &layout);
	return code;
}
