// The worker's side of NameIndex.buildInBackground.

import type { MessagePort } from 'node:worker_threads';
import { SymbolFile } from '../image.ts';
import type { IndexerInput, IndexerMessage } from './nameIndex.ts';

/** Builds the index of one image, and says how far it is. What it throws is the worker's error. */
export const runIndexer = ({ path, cacheFolder }: IndexerInput, port: MessagePort): void => {
  const image = SymbolFile.open(path, { cacheFolder });
  try {
    const tell = (message: IndexerMessage): void => port.postMessage(message);
    const unwritten = image.names?.build((done, total) => tell({ kind: 'progress', done, total }));
    tell({ kind: 'done', bytes: unwritten?.bytes, problem: unwritten?.problem });
  } finally {
    image.close();
  }
};
