#!/bin/sh
# Builds the image with the rootless builder that is installed: podman, buildah, or docker with
# buildx. The base is resolved to its digest first, which the image's labels name.
#
#   IMAGE      name and tag; cats-controlplane:VERSION by default
#   BASE       the base by digest (name@sha256:...), to build once more what was built before
#   PLATFORMS  linux/amd64,linux/arm64 by default
#   PUSH       1 pushes it
set -eu
cd "$(dirname "$0")/../.."
version="$(sed -n 's/^__version__ = "\(.*\)"/\1/p' controlplane/__init__.py)"
image="${IMAGE:-cats-controlplane:${version:?is not stated in controlplane/__init__.py}}"
platforms="${PLATFORMS:-linux/amd64,linux/arm64}"
name="$(sed -n 's/^ARG PYTHON_IMAGE=//p' deploy/docker/Containerfile)"

if command -v podman > /dev/null; then builder=podman
elif command -v buildah > /dev/null; then builder=buildah
elif docker buildx version > /dev/null 2>&1; then builder=docker
else
    echo "no builder of images is installed: podman, buildah, or docker with buildx" >&2
    exit 2
fi

resolve() {
    case "$builder" in
        podman | buildah)
            "$builder" pull --quiet "$name" > /dev/null
            podman image inspect --format '{{.Digest}}' "$name" 2> /dev/null ||
                buildah inspect --type image --format '{{.FromImageDigest}}' "$name"
            ;;
        docker) docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$name" ;;
    esac
}
base="${BASE:-${name%%@*}@$(resolve)}"
case "$base" in
    *@sha256:????????????????????????????????????????????????????????????????) ;;
    *) echo "the base has no digest: $base" >&2; exit 1 ;;
esac

set -- --file deploy/docker/Containerfile --build-arg "PYTHON_IMAGE=$base" \
    --label "org.opencontainers.image.base.name=$name" \
    --label "org.opencontainers.image.base.digest=${base##*@}" --platform "$platforms"
if [ "$builder" = docker ]; then
    [ "${PUSH:-}" != 1 ] || set -- "$@" --push
    docker buildx build "$@" --sbom=true --provenance=true --tag "$image" .
else
    case "$("$builder" build --help)" in
        *--sbom*)
            mkdir -p build
            set -- "$@" --sbom syft --sbom-output build/sbom.json
            ;;
        *) echo "$builder writes no SBOM before buildah 1.35; see make sbom for what is pinned" >&2 ;;
    esac
    "$builder" build "$@" --manifest "$image" .
    [ "${PUSH:-}" != 1 ] || "$builder" manifest push --all "$image"
fi
echo "$image on $base"
