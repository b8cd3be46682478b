/* SPDX-License-Identifier: MIT */
/* seqfeed run: a daemon of one's own for as long as one command runs.
 *
 * Three processes: this one, the daemon, the command. The daemon gets a process group of its own,
 * so that Ctrl-C reaches the command first and the daemon is ended after it; and it is told to end
 * when this process dies in whatever way. All signals are held back here and taken one at a time,
 * so there are no handlers and nothing to race with. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attributes.h"
#include "base/clock.h"
#include "base/file.h"
#include "tool/tool.h"

enum {
    RUN_NOT_EXECUTABLE = 126, /* as shells have it */
    RUN_NOT_FOUND = 127,
    RUN_SIGNAL = 128
};

enum { OPTION_SET = 256, RUN_SETS_MAX = 256 };

static const char run_help[] =
    "Usage: seqfeed run [OPTION...] CONFIG -- COMMAND [ARGUMENT...]\n\n"
    "Start a private daemon with this configuration on a private socket, run COMMAND with\n"
    "SEQFEED_SOCKET set, end the daemon, and return the exit code of COMMAND (128 + N when signal "
    "N\n"
    "ended it). When the daemon does not start, its exit code is returned.\n\n"
    "      --set KEY.PATH=VALUE  as if the configuration said so; may be repeated\n"
    "  -h, --help                print this help\n\n"
    "The daemon is SEQFEED_DAEMON, else the seqfeedd beside this program, else the one in PATH.\n";

typedef struct Run {
    const char *config;
    const char *sets[RUN_SETS_MAX];
    uint32_t set_count;
    char **command;
    char folder[96];
    char socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char daemon_path[PATH_MAX];
    sigset_t taken;      /* signals that are waited for here */
    sigset_t inherited;  /* the mask for the command */
    pid_t daemon, child; /* 0: not running */
    int daemon_code, child_code;
} Run;

static int exit_code_of(int status) {
    return WIFSIGNALED(status) ? RUN_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Collect whoever has ended. */
static void run_reap(Run *run) {
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == run->daemon) {
            run->daemon = 0;
            run->daemon_code = exit_code_of(status);
        } else if (pid == run->child) {
            run->child = 0;
            run->child_code = exit_code_of(status);
        }
    }
}

/* The next signal, or 0 after `timeout_ns`. Ended processes have been collected. */
static int run_wait_signal(Run *run, int64_t timeout_ns, siginfo_t *ret_info) {
    struct timespec limit = {timeout_ns / NS_PER_SECOND, timeout_ns % NS_PER_SECOND};
    int signal = sigtimedwait(&run->taken, ret_info, &limit);

    run_reap(run);
    return signal > 0 && signal != SIGCHLD ? signal : 0;
}

/* Where the daemon's program is. */
static void run_find_daemon(Run *run) {
    const char *named = getenv("SEQFEED_DAEMON");
    char own[PATH_MAX - 16];
    ssize_t size = readlink("/proc/self/exe", own, sizeof own - 1);
    char *slash;

    if (named && named[0] != '\0') {
        snprintf(run->daemon_path, sizeof run->daemon_path, "%s", named);
        return;
    }
    own[size > 0 ? size : 0] = '\0';
    slash = strrchr(own, '/');
    if (slash) {
        *slash = '\0';
        snprintf(run->daemon_path, sizeof run->daemon_path, "%s/seqfeedd", own);
        if (access(run->daemon_path, X_OK) == 0)
            return;
    }
    snprintf(run->daemon_path, sizeof run->daemon_path, "seqfeedd"); /* execvp looks in PATH */
}

/* A folder that is ours alone, with a path short enough for a socket. */
static int run_make_folder(Run *run, Error *error) {
    const char *temporary = getenv("TMPDIR");

    if (!temporary || temporary[0] != '/' || strlen(temporary) > 64)
        temporary = "/tmp";
    snprintf(run->folder, sizeof run->folder, "%.64s/seqfeed-run-XXXXXX", temporary);
    if (!mkdtemp(run->folder)) {
        run->folder[0] = '\0';
        return error_set(error, -errno, "cannot make a folder in %s: %s", temporary,
                         strerror(errno));
    }
    snprintf(run->socket, sizeof run->socket, "%.95s/socket", run->folder);
    return 0;
}

/* The daemon has removed its socket; if it could not, we do. */
static void run_remove_folder(Run *run) {
    struct dirent *entry;
    DIR *folder;

    if (run->folder[0] == '\0')
        return;
    folder = opendir(run->folder);
    while (folder && (entry = readdir(folder)))
        if (entry->d_name[0] != '.' || strlen(entry->d_name) > 2)
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder)
        closedir(folder);
    (void)rmdir(run->folder);
}

/* In the new process: become the daemon. Never returns. */
static void run_become_daemon(const Run *run, pid_t parent) {
    const char *arguments[6 + 2 * RUN_SETS_MAX] = {run->daemon_path, "--config", run->config,
                                                   "--socket", run->socket};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    for (uint32_t i = 0; i < run->set_count; i++) {
        arguments[5 + 2 * i] = "--set";
        arguments[6 + 2 * i] = run->sets[i];
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(RUN_SIGNAL + SIGTERM);
    (void)setpgid(0, 0);
    /* On a terminal with `stty tostop` the background is stopped by its first line of log. */
    (void)signal(SIGTTOU, SIG_IGN);
    if (null >= 0)
        (void)dup2(null, STDIN_FILENO);
    /* Standard output belongs to the command. */
    (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("LISTEN_FDS");
    (void)sigprocmask(SIG_SETMASK, &run->inherited, NULL);
    execvp(run->daemon_path, (char *const *)arguments);
    fprintf(stderr, "seqfeed run: cannot start %s: %s\n", run->daemon_path, strerror(errno));
    _exit(errno == ENOENT ? RUN_NOT_FOUND : RUN_NOT_EXECUTABLE);
}

static void run_become_command(const Run *run) {
    (void)setenv("SEQFEED_SOCKET", run->socket, 1);
    (void)sigprocmask(SIG_SETMASK, &run->inherited, NULL);
    execvp(run->command[0], run->command);
    fprintf(stderr, "seqfeed run: cannot run %s: %s\n", run->command[0], strerror(errno));
    _exit(errno == ENOENT ? RUN_NOT_FOUND : RUN_NOT_EXECUTABLE);
}

/* Until the socket is there, which means that every feed is open. 0, or the exit code of this
 * program. */
static int run_await_daemon(Run *run) {
    int64_t started_ns = clock_now_ns(), speak_ns = started_ns + 5 * NS_PER_SECOND;
    siginfo_t info;

    while (run->daemon != 0 && access(run->socket, F_OK) != 0) {
        int signal = run_wait_signal(run, NS_PER_MS, &info);
        if (signal != 0)
            return RUN_SIGNAL + signal;
        if (clock_now_ns() < speak_ns)
            continue;
        fprintf(stderr, "seqfeed run: waiting for the daemon to open its feeds (%lld s)\n",
                (long long)((clock_now_ns() - started_ns) / NS_PER_SECOND));
        speak_ns += 60 * NS_PER_SECOND;
    }
    if (run->daemon != 0)
        return 0;
    /* It has said why on standard error. Success is no reason to end before the command ran. */
    return run->daemon_code != 0 ? run->daemon_code : TOOL_REFUSED;
}

/* Until the command has ended; its exit code. */
static int run_await_command(Run *run) {
    bool told = false;
    siginfo_t info;

    while (run->child != 0) {
        int signal = run_wait_signal(run, 3600 * NS_PER_SECOND, &info);
        /* What the terminal sends, it has sent to the command as well. */
        if (signal != 0 && run->child != 0 && info.si_code != SI_KERNEL)
            (void)kill(run->child, signal);
        if (run->daemon == 0 && !told && run->child != 0) {
            fprintf(stderr, "seqfeed run: the daemon has ended before the command (exit %d)\n",
                    run->daemon_code);
            told = true;
        }
    }
    return run->child_code;
}

/* It promises to be gone within 10 s of SIGTERM. */
static void run_end_daemon(Run *run) {
    int64_t deadline_ns = clock_now_ns() + 12 * NS_PER_SECOND;
    siginfo_t info;

    if (run->daemon == 0)
        return;
    (void)kill(run->daemon, SIGTERM);
    while (run->daemon != 0 && clock_now_ns() < deadline_ns)
        (void)run_wait_signal(run, 100 * NS_PER_MS, &info);
    if (run->daemon != 0) {
        (void)kill(run->daemon, SIGKILL);
        (void)waitpid(run->daemon, NULL, 0);
        fprintf(stderr, "seqfeed run: the daemon did not end and was killed\n");
    }
}

static int run_start(pid_t *ret_pid, Error *error) {
    fflush(NULL);
    *ret_pid = fork();
    return *ret_pid < 0 ? error_set(error, -errno, "cannot start a process: %s", strerror(errno))
                        : 0;
}

/* The whole life; the exit code. */
static int run_live(Run *run) {
    pid_t parent = getpid();
    Error error;
    int code;

    if (run_make_folder(run, &error) < 0 || run_start(&run->daemon, &error) < 0)
        return tool_refuse("run", &error);
    if (run->daemon == 0)
        run_become_daemon(run, parent);
    code = run_await_daemon(run);
    if (code != 0)
        return code;
    if (run_start(&run->child, &error) < 0)
        return tool_refuse("run", &error);
    if (run->child == 0)
        run_become_command(run);
    return run_await_command(run);
}

/* Up to the next word that is none. False: over, with the exit code. */
static bool run_read_options(Run *run, int argc, char **argv, int *ret_exit) {
    static const struct option options[] = {{"set", required_argument, NULL, OPTION_SET},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    char letter[3];
    int option;

    while ((option = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
        if (option == OPTION_SET && run->set_count < RUN_SETS_MAX) {
            run->sets[run->set_count++] = optarg;
            continue;
        }
        if (option == 'h') {
            fputs(run_help, stdout);
            *ret_exit = tool_finish("run");
        } else if (option == OPTION_SET) {
            *ret_exit = tool_usage("run", "--set more than %d times", RUN_SETS_MAX);
        } else if (option == ':') {
            *ret_exit = tool_wrong_option("run", option, argv);
        } else {
            *ret_exit = tool_usage("run", "there is no option '%s' (the command comes after '--')",
                                   tool_option_name(option, argv, letter));
        }
        return false;
    }
    return true;
}

/* Options stand before and behind the configuration; what follows the command's name is its own. */
static bool run_read_command_line(Run *run, int argc, char **argv, int *ret_exit) {
    opterr = 0;
    optind = 0;
    if (!run_read_options(run, argc, argv, ret_exit))
        return false;
    if (argc > optind) {
        run->config = argv[optind++];
        if (!run_read_options(run, argc, argv, ret_exit))
            return false;
    }
    if (argc == optind) {
        *ret_exit = tool_usage("run", run->config ? "no command: put it after '--'"
                                                  : "no configuration named");
        return false;
    }
    run->command = argv + optind;
    return true;
}

int run_main(int argc, char **argv) {
    static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    Run run = {0};
    int code;

    if (!run_read_command_line(&run, argc, argv, &code))
        return code;
    run_find_daemon(&run);
    sigemptyset(&run.taken);
    for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
        sigaddset(&run.taken, signals[i]);
    /* An ignored SIGCHLD would let ended processes vanish without a word. */
    signal(SIGCHLD, SIG_DFL);
    (void)sigprocmask(SIG_BLOCK, &run.taken, &run.inherited);
    code = run_live(&run);
    run_end_daemon(&run);
    run_remove_folder(&run);
    return code;
}
