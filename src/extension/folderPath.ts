import type { WorkspaceFolder } from 'vscode';

/** The path of a folder on the machine that the extension runs on: in a remote window, the remote one. Undefined for a
 *  folder that is on no machine. */
export const folderPath = (folder: WorkspaceFolder | undefined): string | undefined =>
  folder?.uri.scheme === 'file' ? folder.uri.fsPath : undefined;
