# shellcheck shell=bash
# The token that a Ray cluster asks for: made where there is none, readable by its owner alone, before `ray start`,
# which without one starts a cluster that anybody can use. To be sourced; says what it did on stderr.

ray_token() {
  export RAY_AUTH_MODE=token
  [[ -n ${RAY_AUTH_TOKEN:-} ]] && return
  local file=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
  [[ -s $file ]] && return
  (umask 077 && mkdir -p "$(dirname "$file")" && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$file") || {
    echo "no token could be written to $file: set RAY_AUTH_TOKEN_PATH to a file that can be" >&2
    return 2
  }
  chmod 600 "$file"
  echo "a token for Ray clusters was made: $file" >&2
}
