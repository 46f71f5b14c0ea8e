/** What the packaged lab, `dist/lab.js`, tells on its standard output: lines of JSON. Types only: the extension reads them. */

/** Answer to `plan`, and the end of it. */
export interface LabPlan {
  readonly is: 'plan';
  /** Why there can be no lab on this machine at all: one sentence. */
  readonly refusal?: string;
  /** What this machine lacks to make the lab. */
  readonly missing: readonly Missing[];
  /** What is not in the cache yet. */
  readonly fetched: readonly Piece[];
  /** The folder of the cache. */
  readonly cache: string;
}

export interface Missing {
  readonly need: string;
  readonly remedy: string;
}

export interface Piece {
  readonly what: string;
  /** Of the download, about; in units of a million bytes, as `disk`. */
  readonly megabytes: number;
  /** What it takes in the cache, about. */
  readonly disk: number;
}

/** What is being done. */
export interface LabStep {
  readonly is: 'step';
  readonly text: string;
}

/** All is in the cache: the end of `prepare`, and a part of `ready`. */
export interface PreparedLab {
  /** Root of the kernel's sources. */
  readonly sources: string;
  /** What is there of them, not the whole tree is: paths as the compiler saw them, to those relative to the root. */
  readonly sourcePaths: Readonly<Record<string, string>>;
  /** Fields of launch.json for a guest of the lab: paths are the lab's. */
  readonly configuration: Readonly<Record<string, unknown>>;
}

/** The end of `prepare`. */
export interface LabPrepared extends PreparedLab {
  readonly is: 'prepared';
}

/** `run`: the adapter serves debug sessions at this port of the loopback interface, until the lab ends. */
export interface LabReady extends PreparedLab {
  readonly is: 'ready';
  readonly port: number;
}

/** It cannot be done: the end of anything. */
export interface LabFailed {
  readonly is: 'failed';
  readonly message: string;
}

export type LabMessage = LabPlan | LabStep | LabPrepared | LabReady | LabFailed;
