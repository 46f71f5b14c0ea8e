// The conversation with a stub: one request at a time, each with its answer.

import { connect, type Socket } from 'node:net';
import { hex } from '../../base/address.ts';
import { messageOf, SessionError, TargetError, UserError } from '../../base/errors.ts';
import type { RemoteAddress } from '../connection.ts';
import type { ExitStatus } from '../target.ts';
import { bytesOf, encodePacket, PacketReader, textOf } from './packet.ts';
import { parseStopReply } from './stopReply.ts';

/** Bounds for what hangs, in milliseconds. */
export interface Patience {
  /** For the TCP connection, and for the first answer over it. */
  readonly connect: number;
  /** For an answer while the guest is stopped, and for the stop that was asked for. */
  readonly answer: number;
}

export const usualPatience: Patience = { connect: 5_000, answer: 30_000 };
/** For an answer once an attach is cancelled. */
const shortPatience = 1_000;
const attempts = 3;
const INTERRUPT = 0x03;

interface Timeout {
  readonly after: number;
  error(): Error;
}

interface Waiting {
  readonly packet: Uint8Array;
  /** How often it, or its answer, may still get lost. */
  attemptsLeft: number;
  /** Packets that come before are left from an earlier exchange. */
  isAcknowledged: boolean;
  readonly isForStop: boolean;
  /** From now on it waits no longer than that. */
  limit(milliseconds: number): void;
  take(data: Uint8Array): void;
  fail(error: Error): void;
}

export const describeAddress = ({ host, port }: RemoteAddress): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;

/** Calls are serialised by the owner, but for `interrupt` and `close`. */
export class RspConnection {
  readonly #reader = new PacketReader();
  #waiting: Waiting | undefined;
  #acknowledges = true;
  #lost: SessionError | undefined;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #cancelled: UserError | undefined;
  /** Called once: the VM ended, or the connection is of no use any more. Not after `close`. */
  onEnd: (end: ExitStatus | SessionError) => void = () => undefined;

  private constructor(
    private readonly socket: Socket,
    readonly where: string,
    private patience: Patience,
  ) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (cause) => this.#lose(`: ${messageOf(cause)}`, cause));
    socket.on('close', () => this.#lose('; the VM was ended, or its stub closed the connection', undefined));
  }

  /** UserError with the remedy when nobody is there. */
  static open(address: RemoteAddress, patience: Patience, signal: AbortSignal): Promise<RspConnection> {
    const where = describeAddress(address);
    return new Promise((resolve, reject) => {
      const socket = connect({ host: address.host, port: address.port });
      const fail = (why: string, cause?: unknown): void => {
        clearTimeout(timer);
        socket.destroy();
        reject(new UserError(`attach: ${why}`, { cause }));
      };
      const abort = (): void => fail('cancelled');
      const timer = setTimeout(
        () => fail(`${where} does not answer; is it the right host in "remote"?`),
        patience.connect,
      );
      signal.addEventListener('abort', abort, { once: true });
      socket.once('close', () => signal.removeEventListener('abort', abort));
      const refused = (error: NodeJS.ErrnoException): void => fail(whyUnreachable(error, address), error);
      socket.once('error', refused);
      socket.once('connect', () => {
        clearTimeout(timer);
        socket.removeListener('error', refused);
        signal.removeEventListener('abort', abort);
        if (signal.aborted) abort();
        else resolve(new RspConnection(socket, where, patience));
      });
    });
  }

  /** The first request of a connection: a stub that has a client already leaves others waiting. */
  async greet(text: string): Promise<string> {
    const what =
      `attach: ${this.where} accepts the connection, but no GDB stub answers there: another debugger may be ` +
      'connected to it, which has to disconnect first, or it is no GDB stub.';
    const timeout = { after: this.patience.connect, error: () => new UserError(what) };
    const answer = this.#exchange(bytesOf(text), timeout);
    try {
      return textOf(await answer);
    } catch (error) {
      if (error instanceof SessionError) throw new UserError(what, { cause: error });
      throw error;
    }
  }

  /** The answer to a request; empty where the stub does not know it. SessionError when there is none. */
  async ask(request: string | Uint8Array): Promise<string> {
    return textOf(await this.askBytes(request));
  }

  async askBytes(request: string | Uint8Array): Promise<Uint8Array> {
    if (this.#cancelled) throw this.#cancelled;
    return this.#request(request);
  }

  async #request(request: string | Uint8Array): Promise<Uint8Array> {
    const packet = typeof request === 'string' ? bytesOf(request) : request;
    return this.#exchange(packet, { after: this.patience.answer, error: () => this.#silent(packet) });
  }

  /** Why the guest has stopped: the answer to `?`, a stop reply. */
  async askStop(): Promise<string> {
    if (this.#cancelled) throw this.#cancelled;
    const request = bytesOf('?');
    const timeout = { after: this.patience.answer, error: () => this.#silent(request) };
    return textOf(await this.#exchange(request, timeout, undefined, true));
  }

  /** Makes a request that must be granted: anything but OK is a TargetError that says `what`. Also after
   *  `cancel`: it may undo something. */
  async command(request: string | Uint8Array, what: string): Promise<void> {
    const answer = textOf(await this.#request(request));
    if (answer !== 'OK') throw refusal(what, answer);
  }

  /** Lets the guest run; the answer is how that ended, however long it takes. Console output of the stub is passed over. */
  async run(request: string): Promise<string> {
    this.#isRunning = true;
    try {
      return textOf(await this.#exchange(bytesOf(request), undefined, isOutput, true));
    } finally {
      this.#isRunning = false;
      clearTimeout(this.#timer);
    }
  }

  /** A monitor command's output (`qRcmd`); undefined when the stub has no monitor, or it does not know the command. */
  async monitor(command: string): Promise<string | undefined> {
    if (this.#cancelled) throw this.#cancelled;
    const request = bytesOf(`qRcmd,${Buffer.from(command).toString('hex')}`);
    let output = '';
    const takeOutput = (data: Uint8Array): boolean => {
      if (!isOutput(data)) return false;
      if (output.length < longestOutput) output += Buffer.from(textOf(data.subarray(1)), 'hex').toString('latin1');
      return true;
    };
    const timeout = { after: this.patience.answer, error: () => this.#silent(request) };
    return textOf(await this.#exchange(request, timeout, takeOutput)) === 'OK' ? output : undefined;
  }

  /** The attach is given up: what is asked now may still be answered, for a short while; nothing more is asked until
   *  `leave`. */
  cancel(): void {
    this.#cancelled = new UserError('attach: cancelled.');
    const answer = Math.min(this.patience.answer, shortPatience);
    this.patience = { connect: answer, answer };
    this.#waiting?.limit(answer);
  }

  /** What is asked after `cancel` lets go of the guest. */
  leave(): void {
    this.#cancelled = undefined;
  }

  /** Asks the stub to stop the guest that runs; harmless when it does not. */
  interrupt(): void {
    if (!this.#isRunning || this.#lost || this.#closed) return;
    this.socket.write(Uint8Array.of(INTERRUPT));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(this.#silent(Uint8Array.of(INTERRUPT))), this.patience.answer);
  }

  /** Has the stub end the VM, which closes the connection. SessionError when that does not come. */
  kill(): Promise<void> {
    if (!this.isOpen) return Promise.reject(this.#lost ?? closed());
    const packet = bytesOf('k');
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const failure = this.#silent(packet);
        reject(failure);
        this.#fail(failure);
      }, this.patience.answer);
      this.socket.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      this.socket.write(encodePacket(packet));
    });
  }

  /** QStartNoAckMode was granted. */
  stopAcknowledging(): void {
    this.#acknowledges = false;
  }

  get isOpen(): boolean {
    return !this.#closed && this.#lost === undefined;
  }

  /** What was sent goes out first. Whatever waits fails. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#waiting?.fail(closed());
    this.socket.end();
    // A stub that does not close its side must not keep the process.
    this.socket.unref();
  }

  #silent(packet: Uint8Array): SessionError {
    const what = packet.length === 1 && packet[0] === INTERRUPT ? 'an interrupt' : `\`${textOf(packet).slice(0, 40)}\``;
    return new SessionError(`The remote stub at ${this.where} does not answer ${what}.`);
  }

  /** Sends a request and waits for the first packet behind it that `passes` does not pass over. Unless `isForStop`, stop
   *  replies are no answers. */
  #exchange(
    data: Uint8Array,
    timeout: Timeout | undefined,
    passes: (data: Uint8Array) => boolean = () => false,
    isForStop = false,
  ): Promise<Uint8Array> {
    if (this.#lost) return Promise.reject(this.#lost);
    if (this.#closed) return Promise.reject(closed());
    if (this.#waiting) throw new Error('two requests to a stub at once');
    const packet = encodePacket(data);
    return new Promise((resolve, reject) => {
      const start = (after: number) => timeout && setTimeout(() => this.#fail(timeout.error()), after);
      let timer = timeout && start(timeout.after);
      const settle = (action: () => void): void => {
        clearTimeout(timer);
        this.#waiting = undefined;
        action();
      };
      this.#waiting = {
        packet,
        attemptsLeft: attempts,
        isAcknowledged: !this.#acknowledges,
        isForStop,
        limit: (milliseconds) => {
          clearTimeout(timer);
          timer = start(milliseconds);
        },
        take: (answer) => {
          if (!passes(answer)) settle(() => resolve(answer));
        },
        fail: (error) => settle(() => reject(error)),
      };
      this.socket.write(packet);
    });
  }

  #receive(chunk: Uint8Array): void {
    if (!this.isOpen) return;
    try {
      for (const received of this.#reader.push(chunk)) {
        if (received.kind === 'packet') this.#packet(received.data);
        else if (received.kind === 'damaged') this.#damaged();
        else this.#acknowledged(received.kind === 'acknowledged');
      }
    } catch (error) {
      // Here nobody would catch it: also what is a bug ends this connection, and not the process.
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #acknowledged(isGood: boolean): void {
    const waiting = this.#waiting;
    if (!waiting || waiting.isAcknowledged || !this.#acknowledges) return;
    if (isGood) waiting.isAcknowledged = true;
    else if (--waiting.attemptsLeft > 0) this.socket.write(waiting.packet);
    else this.#fail(new SessionError(`The remote stub at ${this.where} does not understand what it is sent.`));
  }

  #packet(data: Uint8Array): void {
    if (this.#acknowledges) this.socket.write('+');
    const waiting = this.#waiting;
    // No other answer looks like a stop reply; only of those that are to come is one asked for.
    const reply = waiting?.isForStop && waiting.isAcknowledged ? undefined : parseStopReply(textOf(data));
    // Nobody asked for it: the VM ended, or the guest stopped while the connection was made, or late.
    if (reply?.kind === 'exited') this.#end(reply.status);
    else if (!reply && waiting?.isAcknowledged) waiting.take(data);
  }

  #damaged(): void {
    const waiting = this.#waiting;
    if (this.#acknowledges && waiting && --waiting.attemptsLeft > 0) this.socket.write('-');
    else this.#fail(new SessionError(`What the remote stub at ${this.where} sends is damaged.`));
  }

  #lose(why: string, cause: unknown): void {
    if (this.#closed || this.#lost) return;
    this.#fail(new SessionError(`The connection to the remote stub at ${this.where} is lost${why}.`, { cause }));
  }

  #fail(error: Error): void {
    const { isOpen } = this;
    const lost = error instanceof SessionError ? error : new SessionError(messageOf(error), { cause: error });
    this.#lost ??= lost;
    clearTimeout(this.#timer);
    this.#waiting?.fail(error);
    this.socket.destroy();
    if (isOpen) this.onEnd(lost);
  }

  #end(status: ExitStatus): void {
    this.#lost ??= new SessionError('The VM has ended.');
    this.#waiting?.fail(this.#lost);
    this.socket.destroy();
    this.onEnd(status);
  }
}

const closed = (): SessionError => new SessionError('The connection to the remote stub was closed.');

/** `O` and hexadecimal digits (E.3): text for the user, of a monitor command or the guest. */
const isOutput = (data: Uint8Array): boolean => /^O([0-9a-f]{2})*$/i.test(textOf(data));

/** Characters of a monitor command's output that are kept. */
const longestOutput = 1 << 20;

function whyUnreachable({ code, message }: NodeJS.ErrnoException, address: RemoteAddress): string {
  const where = describeAddress(address);
  switch (code) {
    case 'ECONNREFUSED':
      return `nothing listens at ${where}; start the VM with a GDB stub there (QEMU: -gdb tcp::${address.port}), or correct "remote".`;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `there is no host "${address.host}", which "remote" names.`;
    default:
      return `cannot connect to ${where}: ${message}.`;
  }
}

/** What a stub said instead of OK: nothing, when it does not know the request, or `E` and a number of its own. */
export function refusal(what: string, answer: string): TargetError {
  const why =
    answer === ''
      ? 'the remote stub cannot do that'
      : /^E[0-9a-f]{2}/i.test(answer)
        ? `the remote stub refuses it with ${answer.slice(0, 40)}`
        : `the remote stub answers \`${answer.slice(0, 40)}\``;
  return new TargetError(`${what}: ${why}.`);
}

export const hexNumber = (value: bigint | number): string => hex(value).slice(2);
