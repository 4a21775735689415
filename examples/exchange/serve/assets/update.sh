#!/bin/sh
# Fetches the chart library that the page embeds: the standalone production
# build of an exact version of an npm package, and its licence. The checksums
# below are those of the reviewed files; anything else is refused. To move to
# another version change the three values, run this, and look at the page.
set -eu

package=lightweight-charts
version=5.2.1
script_sha256=e21cc5caa0226ef30bd8549c50b9ef926615f2a4ee6b4e486353477a55f598cf
licence_sha256=70c9d5382506dd184465425c08a99ad9bd6d9ac1313c252968ba0b585e5ef823

cd "$(dirname "$0")/charts"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

npm pack --silent --pack-destination "$scratch" "$package@$version" >/dev/null
tar -xzf "$scratch/$package-$version.tgz" -C "$scratch"
script=$scratch/package/dist/$package.standalone.production.js
licence=$scratch/package/LICENSE
printf '%s  %s\n' "$script_sha256" "$script" "$licence_sha256" "$licence" | sha256sum --check --quiet -

cp "$script" lightweight-charts.js
cp "$licence" LICENSE
echo "$package $version"
