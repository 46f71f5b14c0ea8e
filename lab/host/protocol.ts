/** What is said over the lab's virtio-serial port, in lines of JSON: orders in, reports out. Bytes travel in base64. */

export type Order =
  | { do: 'start'; id: number; command: string; cwd?: string; env?: Record<string, string> }
  | { do: 'input'; id: number; data?: string } // without data: end of input
  | { do: 'kill'; id: number; signal: NodeJS.Signals };

export type Report =
  | { is: 'ready' }
  | { is: 'output'; id: number; data: string }
  | { is: 'exit'; id: number; status: number | null; signal: NodeJS.Signals | null };
