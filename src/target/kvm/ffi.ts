// The system calls Node has no binding for, through koffi. The only file that imports it.
//
// ptrace(2) works only from the thread that seized, so everything here is called on the main thread and synchronously;
// koffi's `.async()` runs on pool threads and is never used. Addresses cross the boundary as integers: the memory
// behind them is a NativeBuffer, whose ArrayBuffer lies outside the JavaScript heap and does not move.
import koffi from 'koffi';
import type { Hva } from '../../base/address.ts';
import { MemoryFault, TargetError } from '../../base/errors.ts';

const libc = koffi.load('libc.so.6');
type Integer = number | bigint;
type Call<Arguments extends readonly unknown[]> = (...args: Arguments) => Integer;

const bind = <Arguments extends readonly unknown[]>(name: string, parameters: number): Call<Arguments> =>
  libc.func(name, 'int64', Array<string>(parameters).fill('int64')) as unknown as Call<Arguments>;

const call = {
  ptrace: bind<[Integer, Integer, Integer, Integer]>('ptrace', 4),
  wait4: bind<[Integer, Integer, Integer, Integer]>('wait4', 4),
  readv: bind<[Integer, Integer, Integer, Integer, Integer, Integer]>('process_vm_readv', 6),
  writev: bind<[Integer, Integer, Integer, Integer, Integer, Integer]>('process_vm_writev', 6),
  syscall: bind<[Integer, Integer, Integer, Integer, Integer, Integer, Integer]>('syscall', 7),
};
const ioctl = libc.func('int ioctl(int fd, uint64 request, int64 argument)') as unknown as Call<
  [number, Integer, Integer]
>;
const poll = libc.func('int poll(int64 fds, uint64 count, int timeout)') as unknown as Call<[Integer, number, number]>;
const getpagesize = libc.func('int getpagesize()') as unknown as Call<[]>;
const pipe2 = libc.func('int pipe2(int64 descriptors, int flags)') as unknown as Call<[Integer, number]>;
const openpt = libc.func('int posix_openpt(int flags)') as unknown as Call<[number]>;
const grantpt = libc.func('int grantpt(int fd)') as unknown as Call<[number]>;
const unlockpt = libc.func('int unlockpt(int fd)') as unknown as Call<[number]>;
const ptsname = libc.func('int ptsname_r(int fd, int64 buffer, uint64 size)') as unknown as Call<
  [number, Integer, number]
>;
const spawn = {
  actionsInit: libc.func('int posix_spawn_file_actions_init(int64 actions)') as unknown as Call<[Integer]>,
  actionsDestroy: libc.func('int posix_spawn_file_actions_destroy(int64 actions)') as unknown as Call<[Integer]>,
  addOpen: libc.func(
    'int posix_spawn_file_actions_addopen(int64 actions, int fd, str path, int flags, uint mode)',
  ) as unknown as Call<[Integer, number, string, number, number]>,
  addDup2: libc.func('int posix_spawn_file_actions_adddup2(int64 actions, int from, int to)') as unknown as Call<
    [Integer, number, number]
  >,
  addChdir: libc.func('int posix_spawn_file_actions_addchdir_np(int64 actions, str path)') as unknown as Call<
    [Integer, string]
  >,
  attributesInit: libc.func('int posix_spawnattr_init(int64 attributes)') as unknown as Call<[Integer]>,
  setFlags: libc.func('int posix_spawnattr_setflags(int64 attributes, int16 flags)') as unknown as Call<
    [Integer, number]
  >,
  spawn: libc.func(
    'int posix_spawn(int64 pid, str path, int64 actions, int64 attributes, int64 argv, int64 envp)',
  ) as unknown as Call<[Integer, string, Integer, Integer, Integer, Integer]>,
};

/** Memory with a stable address, for arguments and results of system calls. */
export class NativeBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly address: bigint;
  constructor(readonly length: number) {
    const memory = new ArrayBuffer(length);
    this.bytes = new Uint8Array(memory);
    this.view = new DataView(memory);
    this.address = BigInt(koffi.address(this.bytes));
  }
}

const errnoNames = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));
export const errnoName = (errno: number): string => errnoNames.get(errno) ?? `errno ${errno}`;

/** A system call of ours failed; `code` is the errno's name (`EPERM`). */
export class SystemError extends TargetError {
  override readonly name = 'SystemError';
  readonly code: string;
  constructor(
    readonly operation: string,
    errno: number,
  ) {
    const code = errnoName(errno);
    super(`${operation} failed with ${code}`);
    this.code = code;
  }
}

function checked(operation: string, result: Integer): Integer {
  if (result === -1 || result === -1n) throw new SystemError(operation, koffi.errno());
  return result;
}

/** include/uapi/linux/ptrace.h */
export const Ptrace = {
  CONT: 7,
  SINGLESTEP: 9,
  DETACH: 17,
  SYSCALL: 24,
  SETOPTIONS: 0x4200,
  GETEVENTMSG: 0x4201,
  GETSIGINFO: 0x4202,
  GETREGSET: 0x4204,
  SETREGSET: 0x4205,
  SEIZE: 0x4206,
  INTERRUPT: 0x4207,
  LISTEN: 0x4208,
  GETSIGMASK: 0x420a,
  SETSIGMASK: 0x420b,
  GET_SYSCALL_INFO: 0x420e,
} as const;
export const PtraceOption = { TRACESYSGOOD: 1, TRACECLONE: 8, TRACEEXEC: 16, EXITKILL: 0x100000 } as const;
export const PtraceEvent = { CLONE: 3, EXEC: 4, STOP: 128 } as const;

export function ptrace(request: keyof typeof Ptrace, tid: number, address: Integer, data: Integer): void {
  checked(`ptrace(${request}, ${tid})`, call.ptrace(Ptrace[request], tid, address, data));
}

/** GETREGSET and SETREGSET of one register set; `buffer` is the whole set. */
const regsetVector = new NativeBuffer(16);
export function ptraceRegset(request: 'GETREGSET' | 'SETREGSET', tid: number, set: number, buffer: NativeBuffer): void {
  regsetVector.view.setBigUint64(0, buffer.address, true);
  regsetVector.view.setBigUint64(8, BigInt(buffer.length), true);
  ptrace(request, tid, set, regsetVector.address);
}

/** include/uapi/linux/wait.h */
export const Wait = { NOHANG: 1, UNTRACED: 2, ALL: 0x40000000 } as const;

export type WaitStatus =
  | { readonly kind: 'stopped'; readonly signal: number; readonly event: number }
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signalled'; readonly signal: number };

/** wait(2)'s status word: 0x7f in the low byte is a stop, its signal above, a ptrace event above that. */
function decodeStatus(status: number): WaitStatus {
  const low = status & 0x7f;
  if ((status & 0xff) === 0x7f) return { kind: 'stopped', signal: (status >> 8) & 0xff, event: status >> 16 };
  return low === 0 ? { kind: 'exited', code: (status >> 8) & 0xff } : { kind: 'signalled', signal: low };
}

const statusWord = new NativeBuffer(8);
/** One wait for one thread or child. `undefined`: nothing to report (NOHANG), or no such child or tracee any more. */
export function wait(tid: number, options: number): WaitStatus | undefined {
  for (;;) {
    const result = Number(call.wait4(tid, statusWord.address, options, 0));
    if (result === tid) return decodeStatus(statusWord.view.getInt32(0, true));
    if (result === 0) return undefined;
    const errno = koffi.errno();
    if (errnoName(errno) === 'EINTR') continue;
    if (errnoName(errno) === 'ECHILD') return undefined;
    throw new SystemError(`wait4(${tid})`, errno);
  }
}

const vectors = new NativeBuffer(32);

function transfer(operation: 'read' | 'write', pid: number, remote: bigint, local: bigint, length: number): void {
  vectors.view.setBigUint64(0, local, true);
  vectors.view.setBigUint64(8, BigInt(length), true);
  vectors.view.setBigUint64(16, remote, true);
  vectors.view.setBigUint64(24, BigInt(length), true);
  const run = operation === 'read' ? call.readv : call.writev;
  const done = Number(run(pid, vectors.address, 1, vectors.address + 16n, 1, 0));
  if (done === length) return;
  const why = done < 0 ? errnoName(koffi.errno()) : 'the rest is not mapped';
  throw new MemoryFault('host', remote + BigInt(Math.max(done, 0)), `process ${pid}: ${why}`);
}

/** For transfers that fit: memory outside the JavaScript heap costs more than copying a little. */
const scratch = new NativeBuffer(0x4000);
const buffer = (length: number): NativeBuffer => (length <= scratch.length ? scratch : new NativeBuffer(length));

/** Reads `length` bytes of another process. MemoryFault (space `host`) when not all can be read. */
export function readProcess(pid: number, address: Hva, length: number): Uint8Array<ArrayBuffer> {
  if (length === 0) return new Uint8Array(0);
  const memory = buffer(length);
  transfer('read', pid, address, memory.address, length);
  return memory === scratch ? memory.bytes.slice(0, length) : memory.bytes;
}

/** Writes all of `bytes` into another process. MemoryFault (space `host`) when not all can be written. */
export function writeProcess(pid: number, address: Hva, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  // A copy: a small typed array may lie on the JavaScript heap, where it moves.
  const memory = buffer(bytes.length);
  memory.bytes.set(bytes);
  transfer('write', pid, address, memory.address, bytes.length);
}

/** include/uapi/linux/uio.h: UIO_MAXIOV. */
const vectorLimit = 1024;
const remoteVectors = new NativeBuffer(16 * vectorLimit);

/** One piece of our memory against pieces of another process, all of `length` bytes. MemoryFault as for one. */
function transferEach(
  operation: 'read' | 'write',
  pid: number,
  addresses: readonly Hva[],
  length: number,
  memory: NativeBuffer,
): void {
  const run = operation === 'read' ? call.readv : call.writev;
  for (let from = 0; from < addresses.length; from += vectorLimit) {
    const some = addresses.slice(from, from + vectorLimit);
    for (const [index, address] of some.entries()) {
      remoteVectors.view.setBigUint64(16 * index, address, true);
      remoteVectors.view.setBigUint64(16 * index + 8, BigInt(length), true);
    }
    const size = some.length * length;
    vectors.view.setBigUint64(0, memory.address + BigInt(from * length), true);
    vectors.view.setBigUint64(8, BigInt(size), true);
    const done = Number(run(pid, vectors.address, 1, remoteVectors.address, some.length, 0));
    if (done === size) continue;
    const why = done < 0 ? errnoName(koffi.errno()) : 'the rest is not mapped';
    throw new MemoryFault('host', some[Math.floor(Math.max(done, 0) / length)] ?? 0n, `process ${pid}: ${why}`);
  }
}

/** Reads `length` bytes at each of some addresses, in one system call. */
export function readProcessAt(pid: number, addresses: readonly Hva[], length: number): readonly Uint8Array[] {
  if (addresses.length === 0) return [];
  const memory = buffer(addresses.length * length);
  transferEach('read', pid, addresses, length, memory);
  return addresses.map((_, index) => memory.bytes.slice(index * length, (index + 1) * length));
}

/** Writes pieces, all of the same length, to one address each, in one system call. */
export function writeProcessAt(pid: number, pieces: ReadonlyMap<Hva, Uint8Array>): void {
  const [first] = pieces.values();
  if (first === undefined) return;
  const memory = buffer(pieces.size * first.length);
  for (const [index, bytes] of [...pieces.values()].entries()) memory.bytes.set(bytes, index * first.length);
  transferEach('write', pid, [...pieces.keys()], first.length, memory);
}

/** Sends a signal to one thread (tgkill). ESRCH, the thread being gone, is no error: there is nobody to tell. */
export function signalThread(pid: number, tid: number, signal: number): void {
  try {
    rawSyscall('tgkill', pid, tid, signal);
  } catch (thrown) {
    if (!(thrown instanceof SystemError && thrown.code === 'ESRCH')) throw thrown;
  }
}

/** System calls without a libc wrapper: asm-generic/unistd.h (arm64) and asm/unistd_64.h (x86-64). */
const numbers = {
  perf_event_open: { arm64: 241, x64: 298 },
  pidfd_open: { arm64: 434, x64: 434 },
  tgkill: { arm64: 131, x64: 234 },
} as const;

export function rawSyscall(name: keyof typeof numbers, ...args: readonly Integer[]): number {
  const number = numbers[name][process.arch as 'arm64' | 'x64'];
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  return Number(checked(name, call.syscall(number, a, b, c, d, e, f)));
}

/** An ioctl on a descriptor of ours. */
export function ownIoctl(operation: string, fd: number, request: bigint, argument: Integer): number {
  return Number(checked(operation, ioctl(fd, request, argument)));
}

/** Bytes of a page of this machine. */
export const hostPageSize = (): bigint => BigInt(getpagesize() as number);

/** Blocks until `fd` is readable. */
export function waitReadable(fd: number): void {
  const POLLIN = 1;
  const entry = new NativeBuffer(8);
  entry.view.setInt32(0, fd, true);
  entry.view.setInt16(4, POLLIN, true);
  for (;;) {
    const result = poll(entry.address, 1, -1);
    if (Number(result) === 1) return;
    if (errnoName(koffi.errno()) !== 'EINTR') throw new SystemError('poll', koffi.errno());
  }
}

const fcntl = { O_RDWR: 2, O_NOCTTY: 0o400, O_CLOEXEC: 0o2000000 } as const;

/** A pipe whose ends are not inherited but where a spawn says so. */
export function openPipe(): { readEnd: number; writeEnd: number } {
  const descriptors = new NativeBuffer(8);
  checked('pipe2', pipe2(descriptors.address, fcntl.O_CLOEXEC));
  return { readEnd: descriptors.view.getInt32(0, true), writeEnd: descriptors.view.getInt32(4, true) };
}

/** A new pseudo-terminal: the master's descriptor (ours to close) and the path of its slave. */
export function openPty(): { master: number; slave: string } {
  const master = Number(checked('posix_openpt', openpt(fcntl.O_RDWR | fcntl.O_NOCTTY | fcntl.O_CLOEXEC)));
  checked('grantpt', grantpt(master));
  checked('unlockpt', unlockpt(master));
  const name = new NativeBuffer(128);
  const errno = Number(ptsname(master, name.address, name.length));
  if (errno !== 0) throw new SystemError('ptsname_r', errno);
  return { master, slave: new TextDecoder().decode(name.bytes.subarray(0, name.bytes.indexOf(0))) };
}

function stringVector(strings: readonly string[]): { vector: NativeBuffer; keep: NativeBuffer } {
  const encoded = strings.map((text) => new TextEncoder().encode(`${text}\0`));
  const keep = new NativeBuffer(encoded.reduce((sum, bytes) => sum + bytes.length, 1));
  const vector = new NativeBuffer(8 * (strings.length + 1));
  let offset = 0;
  for (const [index, bytes] of encoded.entries()) {
    keep.bytes.set(bytes, offset);
    vector.view.setBigUint64(8 * index, keep.address + BigInt(offset), true);
    offset += bytes.length;
  }
  return { vector, keep };
}

export interface SpawnOptions {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Path of a terminal that becomes stdin, stdout, stderr and the controlling terminal of a new session. */
  readonly terminal: string;
}

/** Starts a program by posix_spawn. child_process cannot start a tracee: libuv's waitpid would take its stops. */
export function spawnProcess({ argv, cwd, environment, terminal }: SpawnOptions): number {
  const POSIX_SPAWN_SETSID = 0x80; // <spawn.h>
  const actions = new NativeBuffer(256); // posix_spawn_file_actions_t: 80 bytes in glibc, 8 in musl
  const attributes = new NativeBuffer(512); // posix_spawnattr_t: 336 bytes in glibc and musl
  const zero = (operation: string, result: Integer): void => {
    if (Number(result) !== 0) throw new SystemError(operation, Number(result));
  };
  zero('posix_spawn_file_actions_init', spawn.actionsInit(actions.address));
  try {
    zero('posix_spawnattr_init', spawn.attributesInit(attributes.address));
    zero('posix_spawnattr_setflags', spawn.setFlags(attributes.address, POSIX_SPAWN_SETSID));
    zero('addchdir', spawn.addChdir(actions.address, cwd));
    zero('addopen', spawn.addOpen(actions.address, 0, terminal, fcntl.O_RDWR, 0));
    zero('adddup2', spawn.addDup2(actions.address, 0, 1));
    zero('adddup2', spawn.addDup2(actions.address, 0, 2));
    const pid = new NativeBuffer(8);
    const args = stringVector(argv);
    const env = stringVector(Object.entries(environment).map(([name, value]) => `${name}=${value}`));
    zero(
      `posix_spawn(${argv[0]})`,
      spawn.spawn(pid.address, argv[0], actions.address, attributes.address, args.vector.address, env.vector.address),
    );
    // The vectors point into `keep`: both stay reachable until the call is over.
    void [args.keep, env.keep];
    return pid.view.getInt32(0, true);
  } finally {
    spawn.actionsDestroy(actions.address);
  }
}
