// What launch.json may say, validated: every field by its name, one sentence with the remedy.
import { UserError } from '../base/errors.ts';
import { Fields } from './fields.ts';

export const vmmKinds = ['kvmtool', 'qemu'] as const;
export const breakpointModes = ['auto', 'software', 'hardware'] as const;
export const consoles = ['integratedTerminal', 'externalTerminal', 'internalConsole'] as const;
export const exitTraps = ['auto', 'perf', 'syscall'] as const;
/** What a frame shows whose source file is not there. */
export const missingSources = ['path', 'disassembly'] as const;

/** The names a VMM is installed under, the usual one first. */
export const vmmNames: Readonly<Record<(typeof vmmKinds)[number], readonly [string, ...string[]]>> = {
  // kvmtool's Makefile builds `lkvm` and links it as `vm`; distributions package it as `lkvm` or `kvmtool`.
  kvmtool: ['lkvm', 'kvmtool', 'vm'],
  qemu: ['qemu-system-aarch64'],
};

export interface CommonConfiguration {
  readonly symbols: string | undefined;
  readonly modules: readonly string[];
  readonly sourceMap: Readonly<Record<string, string>>;
  readonly missingSources: (typeof missingSources)[number];
  readonly stopOnEntry: boolean;
  readonly breakpointMode: (typeof breakpointModes)[number];
  /** Fields that were given and mean nothing here: misspelt, or of no effect with the others. */
  readonly ignored: readonly string[];
}

/** How to start the VMM. */
export type VmmConfiguration =
  | { readonly kind: 'command'; readonly argv: readonly [string, ...string[]] }
  | {
      readonly kind: (typeof vmmKinds)[number];
      /** Undefined: the usual names are looked up on PATH. */
      readonly path: string | undefined;
      readonly arguments: readonly string[];
      readonly kernel: string;
      readonly initrd: string | undefined;
      readonly disk: string | undefined;
      readonly cpus: number;
      readonly memoryMiB: number;
      readonly params: string | undefined;
    };

export interface LaunchConfiguration extends CommonConfiguration {
  readonly exitTrap: (typeof exitTraps)[number];
  readonly vmm: VmmConfiguration;
  /** The kernel image, when the configuration names one; with `command` it is only checked against the symbols. */
  readonly kernel: string | undefined;
  readonly console: (typeof consoles)[number];
  readonly cwd: string | undefined;
  readonly environment: Readonly<Record<string, string>>;
}

export type AttachConfiguration = CommonConfiguration &
  (
    | { readonly pid: number; readonly exitTrap: (typeof exitTraps)[number]; readonly remote?: undefined }
    | { readonly remote: RemoteConfiguration; readonly pid?: undefined }
  );

/** Where a GDB stub listens. */
export interface RemoteConfiguration {
  readonly host: string;
  readonly port: number;
}

type Settings = Omit<CommonConfiguration, 'ignored'>;

function common(fields: Fields): Settings {
  return {
    symbols: fields.optionalString('symbols') || undefined,
    modules: fields.strings('modules'),
    sourceMap: fields.record('sourceMap'),
    missingSources: fields.choice('missingSources', missingSources) ?? 'path',
    stopOnEntry: fields.boolean('stopOnEntry'),
    breakpointMode: fields.choice('breakpointMode', breakpointModes) ?? 'auto',
  };
}

const exitTrapOf = (fields: Fields): (typeof exitTraps)[number] => fields.choice('exitTrap', exitTraps) ?? 'auto';

/** What VS Code itself reads from a configuration and passes on (its debug.ts, IConfig and IDebugConfiguration), and what
 *  the extension does. */
const clientFields: ReadonlySet<string> = new Set([
  'type',
  'request',
  'name',
  'noDebug',
  'debugServer',
  'preLaunchTask',
  'postDebugTask',
  'presentation',
  'internalConsoleOptions',
  'serverReadyAction',
  'suppressMultipleSessionWarning',
  'linux',
  'lab',
]);

const ignored = (fields: Fields): readonly string[] =>
  fields.unasked().filter((name) => !name.startsWith('__') && !clientFields.has(name));

/** UserError that names the field. Files are not looked at. */
export function parseLaunch(values: unknown): LaunchConfiguration {
  const fields = new Fields(values, 'launch');
  const configuration = {
    ...common(fields),
    exitTrap: exitTrapOf(fields),
    vmm: parseVmm(fields),
    kernel: fields.optionalString('kernel') || undefined,
    console: fields.choice('console', consoles) ?? 'integratedTerminal',
    cwd: fields.optionalString('cwd'),
    environment: fields.record('env'),
  };
  return { ...configuration, ignored: ignored(fields) };
}

function parseVmm(fields: Fields): VmmConfiguration {
  if (fields.has('command')) {
    if (fields.has('vmm')) throw new UserError('launch: "command" and "vmm" exclude each other; remove one of them.');
    const [program, ...rest] = fields.strings('command');
    if (!program) throw fields.wrong('command', 'a list that begins with the VMM program');
    return { kind: 'command', argv: [program, ...rest] };
  }
  const kind = fields.choice('vmm', vmmKinds) ?? 'kvmtool';
  const kernel = fields.string('kernel', 'name the kernel Image to boot, or give a "command"');
  if (kernel === '') throw fields.wrong('kernel', 'the path of the kernel Image');
  return {
    kind,
    path: fields.optionalString('vmmPath') || undefined,
    arguments: fields.strings('vmmArgs'),
    kernel,
    initrd: fields.optionalString('initrd') || undefined,
    disk: fields.optionalString('disk') || undefined,
    cpus: fields.optionalInteger('cpus', { min: 1, max: 512 }) ?? 1,
    memoryMiB: parseMemory(fields),
    params: fields.optionalString('params') || undefined,
  };
}

const units: Readonly<Record<string, number>> = { K: 1 / 1024, M: 1, G: 1024, T: 1024 * 1024 };

function parseMemory(fields: Fields): number {
  const value = fields.raw('memory');
  if (value === undefined) return 512;
  const match = typeof value === 'string' ? /^\s*(\d{1,9})\s*([KMGT]?)(?:i?B)?\s*$/i.exec(value) : undefined;
  const unit = units[match?.[2]?.toUpperCase() || 'M'] ?? 1;
  const size = typeof value === 'number' ? value : match ? Number(match[1]) * unit : Number.NaN;
  if (Number.isInteger(size) && size >= 1 && size <= 16 * 1024 * 1024) return size;
  throw fields.wrong('memory', 'a size in whole MiB such as "512M" or "2G"');
}

/** UserError that names the field. */
export function parseAttach(values: unknown): AttachConfiguration {
  const fields = new Fields(values, 'attach');
  if (fields.has('remote')) {
    if (fields.has('pid')) throw new UserError('attach: "pid" and "remote" exclude each other; remove one of them.');
    const remote = parseRemote(fields);
    return { ...common(fields), remote, ignored: ignored(fields) };
  }
  const given = fields.raw('pid');
  if (given === undefined || given === '') {
    throw new UserError(
      'attach: "pid" is missing; name the process id of the VMM, or in "remote" where a GDB stub listens.',
    );
  }
  const pid = typeof given === 'string' && /^\s*\d{1,10}\s*$/.test(given) ? Number(given) : given;
  if (typeof pid !== 'number' || !Number.isInteger(pid) || pid < 1 || pid > 0x7fffffff) {
    throw fields.wrong('pid', 'the process id of a running VMM');
  }
  return { ...common(fields), exitTrap: exitTrapOf(fields), pid, ignored: ignored(fields) };
}

/** `HOST:PORT`, `:PORT` for this machine, `[ADDRESS]:PORT` with IPv6. */
function parseRemote(fields: Fields): RemoteConfiguration {
  const text = fields.string('remote').trim();
  const [, inBrackets, name, digits] = /^(?:\[([0-9a-f:.]+(?:%\w+)?)\]|([^\s:/@[\]]*)):(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port < 1 || port > 65535) {
    throw fields.wrong('remote', 'the address of a GDB stub as HOST:PORT, such as "localhost:1234" or "[::1]:1234"');
  }
  return { host: inBrackets ?? (name || 'localhost'), port };
}
