# The image of the gateway: the binary, the C library it is linked with, and CA certificates. No shell, no
# package manager, nothing to write to.
#
#   docker build --tag bucketferry .
#   docker build --tag bucketferry --platform linux/arm64 .
#   docker build --tag bucketferry --target prebuilt .        # with the binary in dist/bucketferry
#
# For another processor than the builder's it is cross-compiled, so nothing is emulated. buildah builds it too; older
# ones than 1.31 have to be told of the builder: --build-arg BUILDPLATFORM=linux/amd64.

ARG RUST_IMAGE=rust:1-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim

# What the binary needs of a system, gathered in /root-fs. The libraries of another processor come from Debian's
# packages for cross-compiling.
FROM --platform=$BUILDPLATFORM ${DEBIAN_IMAGE} AS system
ARG TARGETARCH
COPY packaging/gather /usr/local/bin/gather
RUN sh /usr/local/bin/gather "${TARGETARCH:-$(dpkg --print-architecture)}" /root-fs

# Everything but the binary.
FROM scratch AS base
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="bucketferry" \
      org.opencontainers.image.description="An FTP gateway that puts what old programs upload by FTP straight into a cloud bucket" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=system /root-fs/ /
COPY LICENSE /
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 2121 8080
ENTRYPOINT ["/usr/bin/bucketferry"]
CMD ["serve"]

# With a binary that is there already: for CI.
FROM base AS prebuilt
ARG BINARY=dist/bucketferry
COPY --chmod=755 ${BINARY} /usr/bin/bucketferry

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
WORKDIR /src
COPY packaging/cross /usr/local/bin/cross-env
# Debug information stays out; names of functions stay in, for backtraces.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN sh /usr/local/bin/cross-env "${TARGETARCH:-$(dpkg --print-architecture)}" install
# The dependencies, in a layer that only these files can make stale: with an empty program in place of ours.
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
COPY doubles/Cargo.toml doubles/
RUN mkdir -p src bench/src doubles/src \
    && echo 'fn main() {}' | tee src/main.rs > bench/src/main.rs && touch src/lib.rs doubles/src/lib.rs \
    && sh /usr/local/bin/cross-env "${TARGETARCH:-$(dpkg --print-architecture)}" cargo build --release --locked --bin bucketferry \
    && rm -r src
COPY src src
# Newer than the empty one, whatever the time of the files.
RUN find src -name '*.rs' -exec touch {} + \
    && sh /usr/local/bin/cross-env "${TARGETARCH:-$(dpkg --print-architecture)}" cargo build --release --locked --bin bucketferry \
    && install -D --mode=755 target/*-unknown-linux-gnu/release/bucketferry /out/bucketferry

FROM base
COPY --from=build /out/bucketferry /usr/bin/bucketferry
