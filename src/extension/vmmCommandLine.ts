// What the command line of a VMM tells of its guest.
import { basename } from 'node:path';

export interface GuestDescription {
  /** How users call the VMM: kvmtool, QEMU, or its program. */
  readonly vmm: string;
  readonly name: string | undefined;
  readonly vcpus: number | undefined;
  /** In bytes. */
  readonly memory: number | undefined;
  readonly kernel: string | undefined;
}

type Property = 'name' | 'vcpus' | 'memory' | 'kernel';

/** The options that name each property. */
interface Grammar {
  readonly vmm: string | undefined;
  readonly program: RegExp;
  readonly options: Readonly<Record<Property, readonly string[]>>;
}

const grammars: readonly Grammar[] = [
  {
    vmm: 'kvmtool',
    program: /^(lkvm|kvmtool|vm)(-static)?$/,
    // BUILD_OPTIONS in kvmtool's builtin-run.c
    options: { name: ['--name'], vcpus: ['-c', '--cpus'], memory: ['-m', '--mem'], kernel: ['-k', '--kernel'] },
  },
  {
    vmm: 'QEMU',
    program: /^(qemu-system-.+|qemu-kvm|kvm)$/,
    // qemu-options.hx; one dash or two
    options: {
      name: ['-name', '--name'],
      vcpus: ['-smp', '--smp'],
      memory: ['-m', '--m'],
      kernel: ['-kernel', '--kernel'],
    },
  },
];

/** crosvm, Firecracker and Cloud Hypervisor among others: what such programs usually call it. */
const other: Grammar = {
  vmm: undefined,
  program: /^(crosvm|firecracker|cloud-hypervisor)$/,
  options: {
    name: ['--name', '--id'],
    vcpus: ['--cpus', '-c'],
    memory: ['--memory', '--mem', '-m'],
    kernel: ['--kernel', '-kernel', '-k'],
  },
};

const known = [...grammars, other];
const grammarOf = (argument: string): Grammar | undefined =>
  known.find(({ program }) => program.test(basename(argument)));

/** Whether a process is a VMM by its name, where nothing more of it can be seen. `vm` alone says too little. */
export const isVmmProgram = (argv: readonly string[]): boolean =>
  argv[0] !== undefined && grammarOf(argv[0]) !== undefined && (basename(argv[0]) !== 'vm' || argv[1] === 'run');

/** `argv` of a process that is a VMM. */
export function describeGuest(argv: readonly string[]): GuestDescription {
  const start = programIndex(argv);
  const program = argv[start] ?? '';
  const { vmm, options } = grammarOf(program) ?? other;
  const found: Partial<Record<Property, string>> = {};
  for (let index = start + 1; index < argv.length; index++) {
    const argument = argv[index] ?? '';
    for (const property of Object.keys(options) as Property[]) {
      const option = options[property].find((name) => takes(argument, name));
      if (option === undefined) continue;
      // The last one counts, as it does for the VMM.
      const value = argument === option ? argv[++index] : argument.slice(option.length).replace(/^=/, '');
      if (value !== undefined) found[property] = value;
      break;
    }
  }
  return {
    vmm: vmm ?? basename(program),
    name: found.name === undefined ? undefined : keyed(found.name, 'guest').trim() || undefined,
    vcpus: found.vcpus === undefined ? undefined : vcpuCount(found.vcpus),
    memory: found.memory === undefined ? undefined : bytes(keyed(found.memory, 'size')),
    kernel: found.kernel || undefined,
  };
}

/** The dynamic loader, started as a program (ld.so(8)): its own options come before the program. */
const loader = /^ld(-linux)?([-.].*)?\.so(\.\d+)*$/;

/** Where the VMM is: a wrapper may come first, and a loader with options. Behind options of anything else its name is only
 *  some value. */
function programIndex(argv: readonly string[]): number {
  const isLoaded = loader.test(basename(argv[0] ?? ''));
  const options = argv.findIndex((argument) => argument.startsWith('-'));
  const end = isLoaded || options === -1 ? argv.length : options;
  return Math.max(
    argv.slice(0, end).findIndex((argument) => grammarOf(argument) !== undefined),
    0,
  );
}

/** `-m 512`, `--mem=512`, and of single letters with a number or a path behind them `-m512`. */
function takes(argument: string, option: string): boolean {
  if (argument === option) return true;
  if (option.startsWith('--')) return argument.startsWith(`${option}=`);
  return option.length === 2 && argument.startsWith(option) && /^-(?:[cm]\d|k[./])/.test(argument);
}

/** One of the settings of `a,key=b,…`: that of the key, or the one without a key that may come first. In QEMU's lists a
 *  doubled comma is one. */
function keyed(text: string, ...keys: readonly string[]): string {
  const parts = text.split(/(?<!,),(?!,)/).map((part) => part.replaceAll(',,', ','));
  for (const key of keys) {
    const part = parts.find((candidate) => candidate.startsWith(`${key}=`));
    if (part !== undefined) return part.slice(key.length + 1);
  }
  return parts[0] !== undefined && !/^[\w-]+=/.test(parts[0]) ? parts[0] : '';
}

function vcpuCount(text: string): number | undefined {
  // `cpus` is QEMU's, `boot` Cloud Hypervisor's, `num-cores` crosvm's.
  const count = keyed(text, 'cpus', 'boot', 'num-cores');
  if (/^\d+$/.test(count)) return Number(count);
  // Without a count QEMU makes as many as its topology has (machine_parse_smp_config).
  const topology = ['sockets', 'dies', 'clusters', 'modules', 'cores', 'threads'].map((key) => keyed(text, key));
  const given = topology.filter((value) => /^\d+$/.test(value)).map(Number);
  return given.length === 0 ? undefined : given.reduce((product, value) => product * value, 1);
}

const units = 'BKMGTP';

/** A size; a number alone is in MiB. */
function bytes(text: string): number | undefined {
  const match = /^(\d+)([BKMGTP]?)/i.exec(text.trim());
  if (!match) return undefined;
  return Number(match[1]) * 1024 ** units.indexOf(match[2]?.toUpperCase() || 'M');
}
