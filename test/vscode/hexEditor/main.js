// What VS Code's memory view asks of its Hex Editor: an editor of this type, which reads and writes ranges of the memory's file.
const vscode = require('vscode');

exports.activate = ({ subscriptions }) => {
  const provider = {
    openCustomDocument: (uri) => ({ uri, dispose: () => undefined }),
    async resolveCustomEditor({ uri }, { webview }) {
      const range = (from, to) => uri.with({ query: `range=${from}:${to}` });
      const show = async () => {
        const bytes = await vscode.workspace.fs.readFile(range(0, 16));
        const text = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
        const script =
          'const api = acquireVsCodeApi(); document.querySelector("button").onclick = () => api.postMessage("");';
        webview.html = `<pre>${text}</pre><button>Add 1</button><script>${script}</script>`;
        return bytes;
      };
      let bytes = await show();
      webview.onDidReceiveMessage(async () => {
        await vscode.workspace.fs.writeFile(range(0, 1), Uint8Array.of(bytes[0] + 1));
        bytes = await show();
      });
      webview.options = { enableScripts: true };
    },
  };
  subscriptions.push(vscode.window.registerCustomEditorProvider('hexEditor.hexedit', provider));
};
