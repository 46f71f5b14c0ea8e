/** Waiting for what VS Code tells by an event. */
import type { Disposable, Event } from 'vscode';

/** Resolves with what `look` finds, now or after one of the events. */
export function until<Found>(look: () => Found | undefined, ...events: readonly Event<never>[]): Promise<Found> {
  return new Promise((resolve, reject) => {
    const listeners: Disposable[] = [];
    const check = (): void => {
      try {
        const found = look();
        if (found === undefined) return;
        resolve(found);
      } catch (error) {
        reject(error);
      }
      for (const listener of listeners) listener.dispose();
    };
    for (const event of events) listeners.push(event(check));
    check();
  });
}
