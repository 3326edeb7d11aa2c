"""Bugs of users, passwords and permissions: a part of the table in bugs.py."""

from __future__ import annotations

from tests.planted.bug import Bug

ACL, RULES = "tests/test_acl.py::", "tests/test_acl_rules.py::"
REQUIREPASS = "tests/test_requirepass.py::"
BEFORE, TLS = "tests/test_before_auth.py::", "tests/test_tls.py::"

SECURITY_BUGS = (
    Bug(
        "braces hide a key's table",
        "commands/arguments.py",
        '    elif name[:1] == b"{" and name[-1:] == b"}":\n        name = name[1:-1]\n',
        "",
        (ACL + "test_a_key_is_judged_by_what_it_means[{seats}:7]",),
    ),
    Bug(
        "a key is judged with its leading zeros",
        "klani_resp/acl/guard.py",
        'key = b"%b:%d" % (table, row)',
        "key = raw",
        (ACL + "test_a_key_is_judged_by_what_it_means[seats:0007]",),
    ),
    Bug(
        "only the first key is judged",
        "klani_resp/acl/guard.py",
        "for key in command.keys_of(argv) if",
        "for key in command.keys_of(argv)[:1] if",
        (ACL + "test_all_keys_of_a_command_are_judged",),
    ),
    Bug(
        "a pattern for one row is one for its table",
        "commands/glob.py",
        "if elements[-1:] == [None] else None",
        "",
        (RULES + "test_a_table_is_covered[seats-False]",),
    ),
    Bug(
        "a hold is judged by no table",
        "klani_resp/acl/guard.py",
        "    if holds:\n",
        "    if False:\n",
        (ACL + "test_a_hold_is_judged_by_its_table",),
    ),
    Bug(
        "writing is given with reading",
        "klani_resp/acl/guard.py",
        "if access & need == need",
        "if access & need",
        (ACL + "test_reading_and_writing",),
    ),
    Bug(
        "a table without a name opens the default one",
        "klani_resp/acl/guard.py",
        'is_told = bool(head) or b":" not in raw',
        "is_told = True",
        (ACL + "test_what_is_no_key_tells_nothing[:7]",),
    ),
    Bug(
        "a subcommand is allowed with any other",
        "klani_resp/acl/guard.py",
        "if full not in allowed:",
        "if not any(one.startswith(name) for one in allowed):",
        (ACL + "test_subcommands",),
    ),
    Bug(
        "what is queued is not judged",
        "klani_resp/sessions/dispatcher.py",
        "return inner if check is None else",
        'return inner if check is None or where == "multi" else',
        (ACL + "test_e1_no_permission[KL.DROP]",),
    ),
    Bug(
        "EXEC goes on with the permissions that its commands were queued with",
        "klani_resp/sessions/access.py",
        "            if session.user in changed:\n",
        "            if session.user in changed and not session.in_transaction:\n",
        (ACL + "test_rules_that_changed_before_exec",),
    ),
    Bug(
        "a change of rules reaches new connections only",
        "klani_resp/sessions/access.py",
        "        self._follow({user})\n",
        "        self._views.pop(user, None)\n",
        (ACL + "test_a_user_s_sessions_follow_at_once",),
    ),
    Bug(
        "a deleted user's commands that have come are executed",
        "klani_resp/sessions/access.py",
        "                self._log_in(session, None)\n                if session is asked_by:\n"
        "                    session.close_after_reply()\n                else:\n"
        "                    session.end()\n",
        "                session.line.end()\n",
        (ACL + "test_a_user_is_deleted",),
    ),
    Bug(
        "who is killed goes on with what it has sent",
        "klani_resp/sessions/session.py",
        "        self.close_after_reply()\n        self.line.end()\n",
        "        self.line.end()\n",
        ("tests/test_turns.py::test_who_was_cut_off_executes_nothing_more[killed]",),
    ),
    Bug(
        "a user that is off can log in",
        "klani_resp/acl/rules.py",
        "return self.is_on and (found or self.needs_no_password)",
        "return found or self.needs_no_password",
        (RULES + "test_passwords",),
    ),
    Bug(
        "a hash serves as the password",
        "klani_resp/acl/rules.py",
        "        given = hashed(password)\n",
        "        given = password.decode() if len(password) == 64 else hashed(password)\n",
        (RULES + "test_passwords",),
    ),
    Bug(
        "a refused rule leaves those before it in force",
        "klani_resp/acl/users.py",
        "        changed = rules.copy()\n",
        "        changed = rules\n",
        (RULES + "test_a_refused_change_changes_nothing",),
    ),
    Bug(
        "RESET leaves who it was",
        "commands/connection.py",
        "    context.server.access.reset(context.client)\n",
        "",
        (ACL + "test_reset_goes_back_to_the_default_user",),
    ),
    Bug(
        "HELLO sets a name before it knows whose",
        "commands/connection.py",
        "    if not access.is_known(context.client):\n        raise CommandError",
        "    if name is None and not access.is_known(context.client):\n        raise CommandError",
        (ACL + "test_hello_says_who_and_is_told_when_it_does_not",),
    ),
    Bug(
        "what follows AUTH in one piece is judged as before it",
        "klani_resp/protocol/parser.py",
        "        while not (is_one_by_one and requests) and (request",
        "        while (request",
        (BEFORE + "test_what_comes_behind_auth_in_one_piece_is_judged_behind_it[1048576]",),
    ),
    Bug(
        "arguments of a forbidden command are kept",
        "klani_resp/protocol/parser.py",
        "            self._is_kept = not self._request or self._keeps(length)\n",
        "            self._is_kept = True\n",
        (BEFORE + "test_arguments_of_a_forbidden_command_are_not_kept",),
    ),
    Bug(
        "a mapped address is far",
        "klani_resp/sessions/access.py",
        "(mapped or address).is_loopback",
        "address.is_loopback",
        ("tests/test_protected_mode.py::test_e2_who_is_near[::ffff:127.0.0.1-True]",),
    ),
    Bug(
        "a CONFIG SET that is refused has set the password",
        "klani_resp/settings.py",
        "        try:\n            for asked_one in self._asked:\n",
        "        self._put_in_force(values)\n        try:\n            for asked_one in self._asked:\n",
        (REQUIREPASS + "test_a_refused_change_leaves_the_password[maxclients]",),
    ),
    Bug(
        "a password is set before others could fail",
        "klani_resp/settings.py",
        "(*self._told, *self._told_last)",
        "(*self._told_last, *self._told)",
        (REQUIREPASS + "test_whoever_fails_for_a_bug_leaves_the_password",),
    ),
    Bug(
        "a rewritten file has the users of the start",
        "klani_resp/settings.py",
        ' | {"users": self.users()}',
        "",
        (REQUIREPASS + "test_rewritten_users_are_those_of_the_next_start",),
    ),
    Bug(
        "what stands behind a mistyped subcommand is shown",
        "commands/spec.py",
        "            return redacted(argv, 2, None)\n",
        "            return argv\n",
        ("tests/test_acl_answers.py::test_what_may_be_shown_of_a_call[words6-shown6]",),
    ),
    Bug(
        "KL.TABLES names all tables",
        "commands/tables.py",
        " if sees(context.client, name)",
        "",
        (ACL + "test_tables_that_a_user_may_not_read_are_not_named",),
    ),
)
