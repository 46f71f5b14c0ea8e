// From names to entries of .debug_info: by the index once there is one, by a search until then.

import { Worker } from 'node:worker_threads';
import { messageOf } from '../../base/errors.ts';
import { DW_TAG } from '../dwarf/constants.ts';
import type { Dies } from '../dwarf/dies.ts';
import type { Unit } from '../dwarf/unit.ts';
import { buildIndex, type Progress } from './builder.ts';
import { bytesInMemory, defaultCacheFolder, IndexCache } from './cache.ts';
import { type EntryTable, IndexReader } from './layout.ts';
import { NameScan } from './scan.ts';
import { NameSearch } from './search.ts';

export type TypeKind = 'struct' | 'union' | 'class' | 'enum' | 'typedef' | 'base';

const tagOf: Readonly<Record<TypeKind, number>> = {
  struct: DW_TAG.structureType,
  union: DW_TAG.unionType,
  class: DW_TAG.classType,
  enum: DW_TAG.enumerationType,
  typedef: DW_TAG.typedef,
  base: DW_TAG.baseType,
};

export interface IndexOptions {
  readonly cacheFolder?: string;
  /** Told once when the cache cannot be used; all works without. */
  readonly warn?: (text: string) => void;
}

/** What a worker (indexer.ts) is given. */
export interface IndexerInput {
  readonly path: string;
  readonly cacheFolder: string;
}

/** What a worker tells. `bytes`: the index, when it could not be written. */
export type IndexerMessage =
  | { readonly kind: 'progress'; readonly done: number; readonly total: number }
  | { readonly kind: 'done'; readonly bytes: Uint8Array | undefined; readonly problem: string | undefined };

/** The names of one image. */
export class NameIndex {
  readonly #cache: IndexCache;
  readonly #search: NameSearch;
  readonly #warn: (text: string) => void;
  #reader: IndexReader | undefined;
  #close: (() => void) | undefined;
  #cacheWasTried = false;
  #building: Promise<void> | undefined;
  #worker: Worker | undefined;
  #isClosed = false;

  /** `key`: what the image is; an index of another key is not used. */
  constructor(
    readonly dies: Dies,
    readonly key: string,
    { cacheFolder = defaultCacheFolder(), warn = () => undefined }: IndexOptions = {},
  ) {
    this.#cache = new IndexCache(cacheFolder);
    this.#search = new NameSearch(new NameScan(dies));
    this.#warn = warn;
  }

  get cacheFolder(): string {
    return this.#cache.folder;
  }

  /** Of the index, there or not. */
  get path(): string {
    return this.#cache.path(this.key);
  }

  /** Lookups take an index from here on: one that an earlier session left is found at the first question. */
  get isReady(): boolean {
    if (!this.#cacheWasTried) {
      this.#cacheWasTried = true;
      this.#openCached();
    }
    return this.#reader !== undefined;
  }

  /** Builds the index now, in this thread, and keeps it on disk; nothing to do when it is there. Returns the bytes when
   *  they could not be written, for them who are in another thread. */
  build(progress?: Progress): { readonly bytes: Uint8Array; readonly problem: string } | undefined {
    if (this.isReady) return undefined;
    const bytes = buildIndex(this.dies, this.key, progress);
    try {
      this.#cache.write(this.key, bytes);
    } catch (error) {
      this.#takeBytes(bytes);
      const problem = messageOf(error);
      this.#warn(unwritten(problem));
      return { bytes, problem };
    }
    if (!this.#openCached()) this.#takeBytes(bytes);
    return undefined;
  }

  /** Builds the index in a worker; `workerPath` is the bundle of indexer.ts. Resolves when `isReady`, or this was closed
   *  meanwhile, or `abandoned` is aborted; a second call joins the first. Rejects when the worker fails. Lookups then go on
   *  without an index. */
  buildInBackground(
    workerPath: string | URL,
    imagePath: string,
    progress?: Progress,
    abandoned?: AbortSignal,
  ): Promise<void> {
    if (this.isReady || abandoned?.aborted) return Promise.resolve();
    this.#building ??= this.#runWorker(workerPath, imagePath, progress, abandoned);
    return this.#building;
  }

  /** Offsets of entries by name. Those of `near`, where somebody stands, come first. */
  functions(name: string, near?: Unit): number[] {
    return this.#find('functions', name, near);
  }

  /** Variables of static storage, those of functions too. One that no unit defines is found by a declaration. */
  variables(name: string, near?: Unit): number[] {
    return this.#find('variables', name, near);
  }

  /** Complete types. Of definitions that units repeat there is one, but that of `near`. Without an index the search ends
   *  with the first unit that has one. */
  types(name: string, kind?: TypeKind, near?: Unit): number[] {
    const isWanted = (die: number): boolean => kind === undefined || this.dies.at(die).tag === tagOf[kind];
    return this.#find('types', name, near, isWanted);
  }

  /** The enumerations that have an enumerator of that name, as `types`. */
  enumerations(enumerator: string, near?: Unit): number[] {
    return this.#find('enumerators', enumerator, near);
  }

  /** Offsets of the line programs that may name a file, by the last component of its path; undefined until there is an
   *  index. */
  linePrograms(baseName: string): readonly number[] | undefined {
    return this.isReady ? this.#reader?.candidates('files', baseName) : undefined;
  }

  /** Ends a worker that builds: what it has not written is lost. */
  close(): void {
    this.#isClosed = true;
    this.#reader = undefined;
    this.#close?.();
    this.#close = undefined;
    void this.#worker?.terminate();
  }

  #find(table: EntryTable, name: string, near?: Unit, isWanted: (die: number) => boolean = () => true): number[] {
    if (name === '') return [];
    const ours = near === undefined ? [] : this.#search.inUnit(table, name, near).filter(isWanted);
    const found = new Set(ours);
    if (this.isReady) {
      for (const die of this.#candidates(table, name)) if (isWanted(die)) found.add(die);
      return [...found];
    }
    const isRepeated = table === 'types' || table === 'enumerators';
    if (isRepeated && found.size > 0) return [...found];
    for (const dies of this.#search.find(table, name)) {
      for (const die of dies) if (isWanted(die)) found.add(die);
      if (isRepeated && found.size > 0) break;
    }
    return [...found];
  }

  /** Names are compared: the index has hashes. */
  #candidates(table: EntryTable, name: string): number[] {
    const { dies } = this;
    const isNamed = (offset: number): boolean => {
      const die = dies.at(offset);
      if (table !== 'enumerators') return dies.name(die) === name;
      for (const child of dies.children(die)) if (dies.name(child) === name) return true;
      return false;
    };
    return (this.#reader?.candidates(table, name) ?? []).filter(isNamed);
  }

  #openCached(): boolean {
    const opened = this.#isClosed ? undefined : this.#cache.open(this.key);
    this.#use(opened?.reader);
    this.#close = opened?.close;
    return opened !== undefined;
  }

  #takeBytes(bytes: Uint8Array): void {
    if (!this.#isClosed) this.#use(IndexReader.open(bytesInMemory(bytes), this.key));
  }

  #use(reader: IndexReader | undefined): void {
    this.#reader = reader;
    const units = reader?.units();
    if (units !== undefined && units.length > 0) this.dies.units.expect(units);
  }

  #runWorker(workerPath: string | URL, path: string, progress?: Progress, abandoned?: AbortSignal): Promise<void> {
    const workerData: IndexerInput = { path, cacheFolder: this.cacheFolder };
    const worker = new Worker(workerPath, { workerData, name: 'indexer' });
    this.#worker = worker;
    worker.unref(); // nobody waits for an index to end
    abandoned?.addEventListener('abort', () => void worker.terminate(), { once: true });
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => {
        if (this.#isClosed || abandoned?.aborted) resolve();
        else reject(error);
      };
      worker.on('message', (message: IndexerMessage) => {
        if (message.kind === 'progress') {
          progress?.(message.done, message.total);
          return;
        }
        if (message.problem !== undefined) this.#warn(unwritten(message.problem));
        if (message.bytes !== undefined) this.#takeBytes(message.bytes);
        else this.#openCached();
        if (this.#reader !== undefined) resolve();
        else failed(new Error(`The index of ${path} is gone.`));
      });
      worker.once('error', failed);
      worker.once('exit', () => {
        this.#worker = undefined;
        failed(new Error(`The indexer of ${path} ended early.`)); // no effect when it is done
      });
    });
  }
}

const unwritten = (problem: string): string => `The index of names is not kept: ${problem}`;
