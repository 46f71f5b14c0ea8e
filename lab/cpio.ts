/** Writer of "new ASCII" cpio archives, the form the kernel unpacks as initramfs (Documentation/driver-api/early-userspace/buffer-format.rst). */
import { dirname } from 'node:path';

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

interface Member {
  mode: number;
  data: Uint8Array;
  device?: [major: number, minor: number];
}

/** An archive under construction. Paths are absolute; missing folders above them are added. */
export class Cpio {
  readonly #members = new Map<string, Member>();

  folder(path: string): this {
    if (path === '/' || this.#members.has(path)) return this;
    this.folder(dirname(path));
    this.#members.set(path, { mode: S_IFDIR | 0o755, data: new Uint8Array() });
    return this;
  }

  file(path: string, content: Uint8Array | string, permissions = 0o755): this {
    this.folder(dirname(path));
    this.#members.set(path, { mode: S_IFREG | permissions, data: Buffer.from(content) });
    return this;
  }

  link(path: string, target: string): this {
    this.folder(dirname(path));
    this.#members.set(path, { mode: S_IFLNK | 0o777, data: Buffer.from(target) });
    return this;
  }

  characterDevice(path: string, major: number, minor: number): this {
    this.folder(dirname(path));
    this.#members.set(path, { mode: S_IFCHR | 0o600, data: new Uint8Array(), device: [major, minor] });
    return this;
  }

  bytes(): Buffer {
    const chunks: Uint8Array[] = [];
    let inode = 1;
    for (const [path, member] of this.#members) chunks.push(...header(path.slice(1), member, inode++));
    chunks.push(...header('TRAILER!!!', { mode: 0, data: new Uint8Array() }, 0));
    return Buffer.concat(chunks);
  }
}

/** Header, name and data; name and data are each padded to 4 bytes. */
function header(name: string, { mode, data, device = [0, 0] }: Member, inode: number): Uint8Array[] {
  const folder = (mode & S_IFDIR) === S_IFDIR && (mode & S_IFREG) === 0;
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, folder ? 2 : 1, 0, data.length, 0, 0, ...device, Buffer.byteLength(name) + 1, 0];
  const head = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}${name}\0`);
  return [head, padding(head.length), data, padding(data.length)];
}

const padding = (length: number): Uint8Array => new Uint8Array((4 - (length % 4)) % 4);
