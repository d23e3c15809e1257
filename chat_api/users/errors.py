"""What can be wrong with an account."""

from __future__ import annotations

from shared.problems import Forbidden, Problem


class EmailTaken(Problem):
    status = 409
    code = "email-taken"
    title = "The email address is taken"
    detail = "There is an account with this email address already. Sign in, or use another."


class UsernameTaken(Problem):
    status = 409
    code = "username-taken"
    title = "The username is taken"
    detail = "Choose another username."


class UserNotFound(Problem):
    status = 404
    code = "user-not-found"
    title = "User not found"
    detail = "There is no such user, or the account is closed."


class WrongPassword(Forbidden):
    code = "wrong-password"
    title = "The current password is wrong"
    detail = "Send your present password as `current_password`."
