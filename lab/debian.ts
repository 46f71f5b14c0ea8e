/**
 * Debian packages of any architecture, fetched by the machine's own apt with a private state: its mirrors, proxies,
 * credentials and keys are used as configured, and nothing about the machine is changed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { labCache, type Progress } from './cache.ts';
import { command } from './command.ts';

const RELEASE = 'bookworm';

/** `bookworm`, `bookworm-updates`, `bookworm-security` for whatever release this machine runs; undefined: not Debian's. */
function releaseSuite(suite: string): string | undefined {
  const own =
    /^VERSION_CODENAME=(.*)$/m.exec(
      existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '',
    )?.[1] ?? RELEASE;
  for (const base of [RELEASE, own, 'stable']) {
    const pocket = suite.startsWith(base) ? suite.slice(base.length) : undefined;
    if (pocket === '' || pocket === '-updates' || pocket === '-security') return RELEASE + pocket;
  }
  return undefined;
}

/** One-line entries as deb822 stanzas; options keep their meaning, except the architecture, which is ours to say. */
function fromOneLine(text: string): string[] {
  const stanzas: string[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+?)\s*(?:#.*)?$/.exec(line);
    if (!match) continue;
    const options = (match[1] ?? '').split(/\s+/).flatMap((option) => {
      const [name, value] = option.split('=');
      return name && value ? [`${name}: ${value.replaceAll(',', ' ')}`] : [];
    });
    stanzas.push(
      ['Types: deb', `URIs: ${match[2]}`, `Suites: ${match[3]}`, `Components: ${match[4]}`, ...options].join('\n'),
    );
  }
  return stanzas;
}

const field = (stanza: string, name: string): string[] =>
  new RegExp(`^${name}:(.*)$`, 'im').exec(stanza)?.[1]?.trim().split(/\s+/) ?? [];

/** The machine's Debian archives, as deb822 stanzas for the release the lab is made of; other vendors' are left out. */
export function debianSources(files: readonly { name: string; text: string }[]): string {
  const stanzas = files.flatMap(({ name, text }) =>
    name.endsWith('.sources') ? text.replaceAll(/^#.*\n?/gm, '').split(/\n\s*\n/) : fromOneLine(text),
  );
  const ours = stanzas.flatMap((stanza) => {
    if (!field(stanza, 'Types').includes('deb') || !field(stanza, 'Components').includes('main')) return [];
    if (field(stanza, 'Enabled')[0] === 'no') return [];
    const suites = field(stanza, 'Suites').flatMap((suite) => releaseSuite(suite) ?? []);
    if (suites.length === 0) return [];
    const rest = stanza.replaceAll(/^(Types|Suites|Components|Architectures|Arch|Enabled):.*\n?/gim, '').trim();
    return [`Types: deb\nSuites: ${[...new Set(suites)].join(' ')}\nComponents: main\n${rest}\n`];
  });
  return ours.join('\n');
}

/** Debian's own addresses, for a machine whose apt has no archive of Debian's but the keys to it, as Ubuntu may. */
const keys = '/usr/share/keyrings/debian-archive-keyring.gpg';
const usualSources = `Types: deb
URIs: http://deb.debian.org/debian
Suites: ${RELEASE} ${RELEASE}-updates
Components: main
Signed-By: ${keys}

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: ${RELEASE}-security
Components: main
Signed-By: ${keys}
`;

/** apt can be told of Debian's archive on this machine. */
export const hasArchive = (): boolean => machineSources() !== '' || existsSync(keys);

/** Empty where apt has no archive of Debian's. */
function machineSources(): string {
  const parts = '/etc/apt/sources.list.d';
  const paths = existsSync(parts) ? readdirSync(parts).map((name) => join(parts, name)) : [];
  const files = ['/etc/apt/sources.list', ...paths].filter(
    (path) => /\.(list|sources)$/.test(path) && existsSync(path),
  );
  return debianSources(files.map((name) => ({ name, text: readFileSync(name, 'utf8') })));
}

/** Architectures whose indices this process has read. */
const updated = new Set<string>();

/** A package is not to be had: the archive has dropped the version, or cannot be reached. */
export class DownloadError extends Error {}

/** As Debian names them. */
export type Architecture = 'amd64' | 'arm64';

/** Debian's archive as seen for one architecture. Calls are serialised by the owner. */
export class Archive {
  readonly #config: string;
  readonly #progress: Progress;
  readonly #architecture: string;

  constructor(architecture: Architecture, progress: Progress) {
    this.#architecture = architecture;
    this.#progress = progress;
    const root = labCache(`apt-${architecture}`);
    this.#config = join(root, 'apt.conf');
    for (const folder of ['state/lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(root, folder), { recursive: true });
    }
    const sources = machineSources() || (existsSync(keys) ? usualSources : '');
    if (!sources) {
      throw new Error(
        'apt knows no Debian archive on this machine: install debian-archive-keyring, or add one to /etc/apt/sources.list.d',
      );
    }
    writeFileSync(join(root, 'debian.sources'), sources);
    // An empty list of installed packages makes apt resolve whole closures.
    writeFileSync(join(root, 'status'), '');
    writeFileSync(
      this.#config,
      `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear APT::Architectures;
APT::Architecture "${architecture}";
APT::Architectures { "${architecture}"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "3";
Dir::State "${root}/state";
Dir::State::status "${root}/status";
Dir::Cache "${root}/cache";
Dir::Etc::sourcelist "${root}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Debug::NoLocking "true";
`,
    );
  }

  #apt(tool: 'apt-get' | 'apt-cache', args: string[], cwd?: string): Promise<string> {
    return command([tool, '-c', this.#config, '-q', ...args], {
      env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
      ...(cwd === undefined ? {} : { cwd }),
    });
  }

  /** Reads the signed indices anew, once in the life of this process. */
  async update(): Promise<void> {
    if (updated.has(this.#architecture)) return;
    updated.add(this.#architecture);
    this.#progress(`reading Debian's package indices (${this.#architecture})`);
    await this.#apt('apt-get', ['update', '--error-on=any']);
  }

  /** The newest version of a package. */
  async newestVersion(name: string): Promise<string> {
    const record = await this.#apt('apt-cache', ['show', '--no-all-versions', name]);
    const version = field(record, 'Version')[0];
    if (!version) throw new Error(`Debian's archive has no package ${name}`);
    return version;
  }

  /** The packages that `name` depends on directly. */
  async depends(name: string): Promise<string[]> {
    const record = await this.#apt('apt-cache', ['show', '--no-all-versions', name]);
    return field(record.replaceAll(/\([^)]*\)|,/g, ' '), 'Depends');
  }

  /** Every package (`name=version`) that installing `names` on an empty machine needs. */
  async closure(names: readonly string[]): Promise<string[]> {
    const plan = await this.#apt('apt-get', ['install', '-y', '--simulate', ...names]);
    return [...plan.matchAll(/^Inst (\S+) \((\S+)/gm)].map(([, name, version]) => `${name}=${version}`).sort();
  }

  /** Downloads packages (`name=version`) into `folder`; apt checks each against the signed indices. Returns their paths. */
  async download(packages: readonly string[], folder: string): Promise<string[]> {
    mkdirSync(folder, { recursive: true });
    try {
      await this.#apt('apt-get', ['download', ...packages], folder);
    } catch (cause) {
      throw new DownloadError(`cannot download Debian packages: ${(cause as Error).message}`, { cause });
    }
    return readdirSync(folder).map((name) => join(folder, name));
  }
}

/** Unpacks a package's files below `folder`. */
export async function unpack(deb: string, folder: string): Promise<void> {
  await command(['dpkg-deb', '--extract', deb, folder]);
}

/** Unpacks only what matches `patterns` (tar wildcards, starting with `./`). */
export async function unpackSome(deb: string, folder: string, patterns: readonly string[]): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const quoted = patterns.map((pattern) => `'${pattern}'`).join(' ');
  const script = `set -o pipefail; dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --wildcards ${quoted}`;
  await command(['bash', '-c', script, deb, folder]);
}
