/** What a code of the proxy means and what to do about it, for people. */
export interface Advice {
  means: string;
  todo: string;
}

/** Every code that the proxy refuses a connection with (README, "Errors"), and what the try adds. */
export const PROXY_ADVICE: Readonly<Record<string, Advice>> = {
  AUTH_FAILED: {
    means: 'The account is not known, the password is wrong, or the client’s address may not use it.',
    todo:
      'Copy the username and password again. Look whether the account allows only some addresses. If ' +
      'the password is lost, make a new one.',
  },
  BAD_PARAM: {
    means: 'Something in the username or the request is not understood.',
    todo:
      'Build the username on the Connect page. An unknown key, a wrong value or a key given twice is ' +
      'refused, never ignored.',
  },
  NO_BALANCE: { means: 'The balance is used up.', todo: 'Top up. Traffic goes on within a second.' },
  QUOTA_REACHED: {
    means: 'A byte limit of the account or sub-user is reached.',
    todo:
      'Raise the sub-user’s limit, or wait until the day or month (UTC) is over. Ask support about ' +
      'your own limits.',
  },
  ACCOUNT_SUSPENDED: {
    means: 'The account or sub-user is switched off.',
    todo: 'Switch the sub-user on again. If it is your main account, write to support.',
  },
  KYC_REQUIRED: {
    means: 'The account is not verified yet, or the acceptable-use policy is not accepted.',
    todo: 'Accept the policy on the first page. Support can tell how long verification takes.',
  },
  TARGET_BLOCKED: {
    means: 'The destination is not allowed, by your own lists or by the platform’s policy.',
    todo:
      'Look at allowed and denied domains in your limits. What the platform’s policy blocks stays ' +
      'blocked.',
  },
  PORT_BLOCKED: {
    means: 'The port is not open to this account.',
    todo: 'Ports 80 and 443 are open to all. Ask support to open others.',
  },
  UDP_NOT_ALLOWED: {
    means: 'UDP is not enabled for this account.',
    todo: 'Use TCP, or ask support to grant UDP.',
  },
  IP_PROHIBITED: {
    means: 'The destination is a private address, or its name leads to one.',
    todo: 'Only public addresses can be reached. Check the name in your own DNS.',
  },
  CONN_LIMIT: {
    means: 'As many connections are open as the limit allows.',
    todo: 'Close connections that are done, spread the work, or ask for a higher limit.',
  },
  RATE_LIMIT: {
    means: 'Too many new connections in one second, or too many wrong logins.',
    todo: 'Keep connections open and use them again; wait as Retry-After says.',
  },
  NO_PEER: {
    means: 'No device matches what the username asks for now.',
    todo:
      'Ask for less: leave out the city or network, choose another country, or allow a fallback. ' +
      'Locations shows what is online.',
  },
  SESSION_LOST: {
    means: 'The exit of a strict session went away.',
    todo: 'Begin a new session name, or leave out strict so that the exit is replaced.',
  },
  PEER_DROPPED: {
    means: 'The device went away, and so did those tried after it.',
    todo: 'Try again: another device is taken.',
  },
  DNS_FAIL: {
    means: 'The destination’s name does not resolve at the device.',
    todo: 'Check the spelling. Names that only your own network knows can not be reached.',
  },
  REFUSED: {
    means: 'The destination refused the connection.',
    todo: 'Check host and port. The destination may block this exit: use another session.',
  },
  UNREACHABLE: {
    means: 'There is no way from the device to the destination.',
    todo: 'Check the address. IPv6 destinations need devices with IPv6: use a name instead.',
  },
  CONNECT_TIMEOUT: {
    means: 'The destination did not answer in time.',
    todo: 'Try again or use another session; look whether the destination is up.',
  },
  DRAINING: {
    means: 'The gateway is about to be restarted.',
    todo: 'Connect again: you reach another one.',
  },
  INTERNAL: {
    means: 'The gateway failed.',
    todo: 'Try again. If it stays, tell support the request id.',
  },
  PROXY_UNREACHABLE: {
    means: 'The server did not reach the proxy.',
    todo: 'Try from your own machine; if that fails too, tell support.',
  },
};

/** Advice for any code, also one that this page does not know yet. */
export function adviceFor(code: string): Advice {
  return (
    PROXY_ADVICE[code] ?? {
      means: 'The proxy refused the connection.',
      todo: 'Look the code up in the documentation.',
    }
  );
}
