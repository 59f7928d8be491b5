/** How a client talks to the proxy; one port takes them all. */
export type Scheme = 'http' | 'https' | 'socks5';

export interface SnippetParts {
  scheme: Scheme;
  host: string;
  port: number;
  username: string;
  password: string;
  /** What is fetched. */
  url: string;
}

export interface Snippet {
  key: 'curl' | 'python' | 'node' | 'browser';
  label: string;
  text: string;
  /** What has to be there before it runs; null: nothing. */
  needs: string | null;
}

/** The page of the proxy itself that tells the exit, free of charge. */
export const ECHO_URL = 'http://echo.traffic-share.internal/';
/** Stands where the password is not known. */
export const PASSWORD_MISSING = 'YOUR_PASSWORD';

/** The proxy as one address, in the spelling that most clients take. */
export function proxyUrl({ scheme, host, port, username, password }: SnippetParts): string {
  const named = host.includes(':') ? `[${host}]` : host;
  return `${scheme === 'socks5' ? 'socks5h' : scheme}://${username}:${password}@${named}:${port}`;
}

/** For a POSIX shell. */
const shell = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
/** For Python and JavaScript alike: a JSON string is one of theirs. */
const quoted = (text: string) => JSON.stringify(text);

/** Ready to be pasted; each prints the page. */
export function snippetsOf(parts: SnippetParts): Snippet[] {
  const proxy = proxyUrl(parts);
  const { scheme, url } = parts;
  const socks = scheme === 'socks5';
  return [
    { key: 'curl', label: 'curl', needs: null, text: `curl -x ${shell(proxy)} ${shell(url)}` },
    {
      key: 'python',
      label: 'Python',
      needs: socks ? "pip install 'requests[socks]'" : 'pip install requests',
      text: `import requests

proxy = ${quoted(proxy)}
answer = requests.get(${quoted(url)}, proxies={"http": proxy, "https": proxy}, timeout=30)
print(answer.text)`,
    },
    {
      key: 'node',
      label: 'Node',
      needs: 'npm install undici',
      text: nodeText(parts),
    },
    { key: 'browser', label: 'Browser', needs: null, text: browserText(parts) },
  ];
}

function nodeText(parts: SnippetParts): string {
  const socks = parts.scheme === 'socks5';
  const agent = socks ? 'Socks5ProxyAgent' : 'ProxyAgent';
  // undici leaves names to the proxy in any case, and knows the scheme by this name only.
  const proxy = proxyUrl(parts).replace(/^socks5h:/, 'socks5:');
  return `import { ${agent}, fetch } from "undici";

const dispatcher = new ${agent}(${quoted(proxy)});
const answer = await fetch(${quoted(parts.url)}, { dispatcher });
console.log(await answer.text());
await dispatcher.close();`;
}

function browserText({ scheme, host, port, url }: SnippetParts): string {
  const named = host.includes(':') ? `[${host}]` : host;
  return `chromium --proxy-server=${shell(`${scheme}://${named}:${port}`)} ${shell(url)}`;
}
