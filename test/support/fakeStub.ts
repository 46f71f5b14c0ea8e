// A GDB stub in this process: one that a test scripts, and one with a fake guest behind it.
import { createServer, type Server, type Socket } from 'node:net';
import { Gpa, Gva } from '../../src/base/address.ts';
import { TargetError } from '../../src/base/errors.ts';
import { bytesOf, encodePacket, PacketReader, textOf } from '../../src/target/rsp/packet.ts';
import type { StopEvent, StopPointId } from '../../src/target/target.ts';
import type { FakeTarget } from './fakeTarget.ts';

/** What is sent back: the data of one packet or of several, bytes as they are, or nothing. */
export type Answer = string | readonly string[] | Uint8Array | undefined;

export class FakeStub {
  /** Everything it was asked, and an interrupt as ^C. */
  readonly requests: string[] = [];
  acknowledges = true;
  /** How many of the next packets it takes for damaged. */
  refusals = 0;
  #socket: Socket | undefined;

  private constructor(
    private readonly server: Server,
    private readonly answer: (request: string, stub: FakeStub) => Answer | Promise<Answer>,
  ) {
    server.on('connection', (socket) => this.#serve(socket));
  }

  static async start(answer: (request: string, stub: FakeStub) => Answer | Promise<Answer>): Promise<FakeStub> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new FakeStub(server, answer);
  }

  get address(): { readonly host: string; readonly port: number } {
    const address = this.server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return { host: '127.0.0.1', port: address.port };
  }

  send(answer: Answer): void {
    if (answer === undefined) return;
    if (answer instanceof Uint8Array) this.#socket?.write(answer);
    else for (const data of [answer].flat()) this.#socket?.write(encodePacket(bytesOf(data)));
  }

  /** Drops the client. */
  drop(): void {
    this.#socket?.destroy();
  }

  close(): void {
    this.drop();
    this.server.close();
  }

  #serve(socket: Socket): void {
    this.#socket = socket;
    const reader = new PacketReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      // 0x03 stands between packets, and nowhere else here.
      if (chunk.includes(3)) void this.#take('^C');
      for (const received of reader.push(chunk)) {
        if (received.kind === 'packet') void this.#take(textOf(received.data));
        else if (received.kind === 'refused') void this.#take(this.requests.at(-1) ?? '');
      }
    });
  }

  async #take(request: string): Promise<void> {
    if (this.refusals > 0) {
      this.refusals -= 1;
      this.#socket?.write('-');
      return;
    }
    this.requests.push(request);
    if (request !== '^C' && this.acknowledges) this.#socket?.write('+');
    this.send(await this.answer(request, this));
  }
}

export interface FakeStubOptions {
  /** Feature words of qSupported, beside those it always has. */
  readonly features?: string;
  /** Requests that it does not know. */
  readonly without?: RegExp;
}

const digitsOf = (value: bigint, bits: number): string =>
  Array.from({ length: bits / 8 }, (_, n) => ((value >> BigInt(8 * n)) & 0xffn).toString(16).padStart(2, '0')).join('');
const numberOf = (digits: string): bigint => BigInt(`0x${Buffer.from(digits, 'hex').reverse().toString('hex') || '0'}`);

/** The answers of a stub like QEMU's with a fake guest. */
export class GuestBehindStub {
  readonly #points = new Map<string, StopPointId>();
  readonly #registers: readonly { readonly name: string; readonly bits: number }[];
  #vcpu = 0;
  isPhysical = false;

  constructor(
    readonly target: FakeTarget,
    private readonly options: FakeStubOptions = {},
  ) {
    // As features/aarch64-core.xml has it.
    this.#registers = target.registers.map(({ name, bits }) => ({ name, bits: name === 'pstate' ? 32 : bits }));
  }

  /** The stop points that are in the stub. */
  get planted(): readonly string[] {
    return [...this.#points.keys()];
  }

  readonly answer = async (request: string, stub: FakeStub): Promise<Answer> => {
    if (this.options.without?.test(request)) return '';
    try {
      return await this.#answer(request, stub);
    } catch (error) {
      if (error instanceof TargetError) return 'E14';
      throw error;
    }
  };

  async #answer(request: string, stub: FakeStub): Promise<Answer> {
    const { target } = this;
    const [, letter = '', rest = ''] = /^(.)(.*)$/s.exec(request) ?? [];
    if (request === '^C') {
      target.interrupt();
      return undefined;
    }
    if (request.startsWith('qSupported')) return `PacketSize=200;qXfer:features:read+${this.options.features ?? ''}`;
    if (request === 'QStartNoAckMode') {
      stub.send('OK');
      stub.acknowledges = false;
      return undefined;
    }
    if (request.startsWith('qXfer')) return this.#description(request);
    if (request === '?') return 'T05thread:p01.01;';
    if (request === 'qfThreadInfo') return `m${target.vcpus.map((vcpu) => `p01.0${vcpu + 1}`).join()}`;
    if (request === 'qsThreadInfo') return 'l';
    if (request === 'vCont?') return 'vCont;c;C;s;S';
    if (request === 'qqemu.sstepbits') return 'ENABLE=1,NOIRQ=2,NOTIMER=4';
    if (request === 'qqemu.sstep') return '0x7';
    if (request === 'qqemu.PhyMemMode') return this.isPhysical ? '1' : '0';
    if (request.startsWith('Qqemu.PhyMemMode:')) {
      this.isPhysical = request.endsWith('1');
      return 'OK';
    }
    if (request.startsWith('qRcmd,')) return this.#monitor(Buffer.from(request.slice(6), 'hex').toString());
    if (request === 'vCont;c') return this.#stop(await target.resume());
    if (request.startsWith('vCont;s:')) {
      const vcpu = Number.parseInt(request.split('.')[1] ?? '', 16) - 1;
      return this.#stop(await target.step(vcpu));
    }
    switch (letter) {
      case 'H':
        this.#vcpu = Number.parseInt(rest.split('.')[1] ?? '1', 16) - 1;
        return 'OK';
      case 'g':
        return this.#registers
          .slice(0, 34)
          .map(({ name, bits }) => digitsOf(target.get(this.#vcpu, name), bits))
          .join('');
      case 'p': {
        const register = this.#registers[Number.parseInt(rest, 16)];
        return register ? digitsOf(target.get(this.#vcpu, register.name), register.bits) : 'E00';
      }
      case 'P': {
        const [number = '', digits = ''] = rest.split('=');
        const register = this.#registers[Number.parseInt(number, 16)];
        // Like QEMU: OK, and nothing done, for what it does not write.
        if (register && !register.name.endsWith('_el1')) target.set(this.#vcpu, register.name, numberOf(digits));
        return 'OK';
      }
      case 'm': {
        const [address = '', length = ''] = rest.split(',');
        const memory = this.isPhysical ? target.physicalMemory : target.memory(this.#vcpu);
        const bytes = await memory.read(
          (this.isPhysical ? Gpa : Gva)(BigInt(`0x${address}`)) as never,
          Number.parseInt(length, 16),
        );
        return Buffer.from(bytes).toString('hex');
      }
      case 'M':
      case 'X': {
        const [, address = '', data = ''] = /^([^,]*),[^:]*:(.*)$/s.exec(rest) ?? [];
        const bytes = letter === 'X' ? bytesOf(data) : Uint8Array.from(Buffer.from(data, 'hex'));
        if (bytes.length > 0) await target.memory(this.#vcpu).write(Gva(BigInt(`0x${address}`)), bytes);
        return 'OK';
      }
      case 'Z':
        return this.#insert(rest);
      case 'z': {
        const id = this.#points.get(rest);
        this.#points.delete(rest);
        if (id === undefined) return 'E22';
        await target.remove(id);
        return 'OK';
      }
      case 'D':
        await target.detach();
        return 'OK';
      case 'k':
        await target.kill();
        stub.drop();
        return undefined;
      default:
        return '';
    }
  }

  async #insert(place: string): Promise<Answer> {
    const [type = '', digits = '', kind = ''] = place.split(',');
    const address = Gva(BigInt(`0x${digits}`));
    const access = (['write', 'read', 'readWrite'] as const)[Number(type) - 2] ?? 'write';
    const length = Number.parseInt(kind, 16);
    const point =
      Number(type) < 2
        ? ({ kind: type === '0' ? 'software' : 'hardware', address } as const)
        : ({ kind: 'watch', address, length, access } as const);
    this.#points.set(place, await this.target.insert(point));
    return 'OK';
  }

  #stop(events: readonly StopEvent[]): Answer {
    const [event] = events;
    if (event?.kind === 'exited') return `W${(event.status.code ?? 0).toString(16).padStart(2, '0')}`;
    const thread = `thread:p01.0${(event?.vcpu ?? 0) + 1};`;
    if (event?.kind === 'interrupted') return `T02${thread}`;
    return event?.kind === 'watchpoint' ? `T05${thread}watch:${event.accessed.toString(16)};` : `T05${thread}`;
  }

  #description(request: string): Answer {
    const [, annex, offset = '', length = ''] = /:read:([^:]*):([^,]*),(.*)$/.exec(request) ?? [];
    const registers = this.#registers
      .map(({ name, bits }) => `<reg name="${name === 'pstate' ? 'cpsr' : name.toUpperCase()}" bitsize="${bits}"/>`)
      .join('');
    const text =
      annex === 'target.xml'
        ? '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target><architecture>aarch64</architecture><xi:include href="all.xml"/></target>'
        : annex === 'all.xml'
          ? `<feature name="all">${registers}</feature>`
          : undefined;
    if (text === undefined) return 'E00';
    const from = Number.parseInt(offset, 16);
    const part = text.slice(from, from + Number.parseInt(length, 16));
    return `${from + part.length < text.length ? 'm' : 'l'}${part}`;
  }

  #monitor(command: string): Answer {
    if (command !== 'info mtree -f') return 'OK';
    const ranges = [...this.target.pages.keys()].map((page) => {
      const [first, last] = [page, page + 0xfffn].map((address) => address.toString(16).padStart(16, '0'));
      return `  ${first}-${last} (prio 0, ram): fake\r\n`;
    });
    const lines = ['FlatView #0\r\n', ' AS "memory", root: system\r\n', ' Root memory region: system\r\n', ...ranges];
    return [...lines.map((line) => `O${Buffer.from(line).toString('hex')}`), 'OK'];
  }
}
