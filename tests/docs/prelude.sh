# What stands before the commands of a page in tests/docs/test_commands.py: a machine of its own,
# and stand-ins for what other machines would do.
set -eu
"$PYTHON" - <<'END'
import fcntl, socket, struct
with socket.socket() as lo:  # bring loopback up in the network of this script
    fcntl.ioctl(lo, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
END
# What a command installs is seen by this script only.
mkdir "$HOME/etc"
cp -r /etc/. "$HOME/etc/" 2> /dev/null || true
mkdir -p "$HOME/etc/systemd/system"
mount --bind "$HOME/etc" /etc
mount -t tmpfs none /opt
wait_for() { curl -s --retry 120 --retry-all-errors --retry-delay 1 -o "$HOME/waited" "$@"; }
# An environment that was moved has scripts that no longer start; the command is the same.
cats --version > /dev/null 2>&1 || cats() { "$PYTHON" -m controlplane "$@"; }
.venv/bin/cats --version > /dev/null 2>&1 || .venv/bin/cats() { "$PYTHON" -m controlplane "$@"; }
# `make test` is what runs this, and `make demo` has tests of its own; the targets must be there.
make() { command make --dry-run "$@" > /dev/null; }
pip() {
    test "$1" = install
    "$PYTHON" -m pip "$@" --quiet --no-deps --no-build-isolation --target "$HOME/site"
}
/opt/cats/bin/pip() {
    case "$*" in
        *requirements/image.txt) grep -q '^nats-py==' requirements/image.txt ;;
        *requirements/build.txt) grep -q '^setuptools==' requirements/build.txt ;;
        *--no-deps\ --no-build-isolation\ .) test -f pyproject.toml ;;
        *) return 1 ;;
    esac
}
# In a namespace of one user no one can be added, and no group given to a file.
useradd() { echo "${*: -1}" > "$HOME/user"; }
install() {
    local kept=()
    while [ $# -gt 0 ]; do
        if [ "$1" = -g ]; then
            grep -qx "$2" "$HOME/user"
            shift
        else
            kept+=("$1")
        fi
        shift
    done
    command install "${kept[@]}"
}
podman() {
    case "$1" in
        build) test "$2" = -f && test -f "$3" && test "${*: -1}" = . && echo "$5" > "$HOME/image" ;;
        push) grep -qx "$2" "$HOME/image" ;;
        *) return 1 ;;
    esac
}
systemctl() {
    case "$*" in
        daemon-reload) ;;
        "enable --now cats" | "reload cats")
            test -f /etc/systemd/system/cats.service && cats check /etc/cats/fleet.yaml ;;
        *) return 1 ;;
    esac
}
helm() {
    "$PYTHON" -m testbed.fakes.helm "$@" || return
    # What the cluster would start: a control plane, an instance and a gateway.
    cats serve -c fleet.yaml > "$HOME/control-plane.log" 2>&1 &
    wait_for -f localhost:18080/readyz
    start_edge
}
start_edge() {
    "$PYTHON" -m testbed.fakes.instances --port 9102 --model assistant-8b-retail > "$HOME/instance.log" 2>&1 &
    wait_for localhost:9102/health
    cats bootstrap -c fleet.yaml --site edge-north --id gateway-1 > "$HOME/gateway.yaml"
    envoy -c "$HOME/gateway.yaml" > "$HOME/gateway.log" 2>&1 &
    wait_for localhost:10000/
}
kubectl() {
    "$PYTHON" -m testbed.fakes.kubectl "$@" || return
    case "$*" in
        *"port-forward service/"*) sleep 600 ;; # the gateway listens at that port by itself
        *port-forward*) cats serve -c fleet.yaml ;; # the pod that it leads to
        "apply -k deploy/kubernetes/overlays/edge-site")
            start_edge # an instance of the site, and its gateway
            ;;
    esac
}
# What the operator's own kubeconfig says.
for context in cloud edge-1; do
    "$KUBECTL" config set-cluster $context --server "https://$context.example:6443"
    "$KUBECTL" config set-context $context --cluster $context
done > /dev/null
# What an authority would hand out.
"$PYTHON" - <<'END'
from pathlib import Path
from testbed.fakes.certificates import Authority, KeyPair
authority = Authority(Path())
authority.issue("cats.cats.svc", over=KeyPair(Path("tls.crt"), Path("tls.key")))
authority.ca.rename("ca.crt")
END
# One gateway, at the port of all gateways.
sed "s/port: 10001/port: 10000/" examples/cloud-edge-device/fleet.yaml > fleet.yaml
