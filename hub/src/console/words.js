// Italian for what the hub says by code.

export const PURPOSES = [
  ["urban-security", "Sicurezza urbana"],
  ["judicial-police", "Polizia giudiziaria"],
  ["road-safety", "Sicurezza stradale"],
  ["civil-protection", "Protezione civile"],
  ["environmental-offences", "Reati ambientali"],
  ["maintenance", "Manutenzione (solo telecamere proprie)"],
];

const SENTENCES = {
  HUB_UNREACHABLE: "L’hub non risponde. Controlla la rete; la pagina riprova alla prossima richiesta.",
  NOT_SIGNED_IN: "La sessione è scaduta: accedi di nuovo.",
  WRONG_PASSWORD: "Nome utente o password errati.",
  TOO_MANY_ATTEMPTS: "Troppi tentativi falliti: aspetta qualche minuto.",
  NO_PURPOSE: "Scegli la finalità della ricerca.",
  NO_CASE: "Scrivi il numero del fascicolo (da 1 a 64 caratteri).",
  BAD_INTERVAL: "L’intervallo non va bene: «Da» deve venire prima di «A» e non oltre la conservazione.",
  BAD_FIELD: "Un campo non va bene.",
  NOT_ALLOWED: "Questo account non può farlo.",
  NOT_GRANTED: "Nessuna clausola dell’accordo lo consente per questa richiesta.",
  NO_AGREEMENT: "Nessun accordo in vigore copre questa richiesta.",
  REVOKED: "L’accordo è stato revocato.",
  SUSPENDED: "L’accordo è sospeso finché le due parti non lo confermano.",
  EXPIRED: "Il termine è scaduto.",
  SCHEMA_TOO_OLD: "L’accordo è più recente di questo hub: va aggiornato.",
  UNREACHABLE: "Non raggiungibile.",
  TIMED_OUT: "Non ha risposto in tempo.",
  NOT_KNOWN: "Non riconosce la nostra firma.",
  BUSY: "Troppo occupato: riprova tra poco.",
  TOO_MANY_SEARCHES: "Troppe ricerche insieme: riprova tra un momento.",
  UNEXPECTED: "Ha risposto altro da quello che era stato chiesto: avvisa l’amministratore.",
  EXHAUSTED: "Troppe richieste insieme: riprova tra poco.",
  FAILED: "Ha avuto un guasto.",
  NOT_AUTHENTIC: "Risposta non autentica: avvisa l’amministratore.",
  CUT_SHORT: "Risposta interrotta lungo la strada.",
  UNAVAILABLE: "Non disponibile in questo momento.",
  NOTHING_RECORDED: "In questo intervallo la telecamera non ha registrato, o la registrazione non è più conservata.",
  NO_THUMBNAIL: "Immagine non (più) disponibile.",
  PLAYBACK_ENDED: "La riproduzione è terminata: riaprila.",
  ENDED: "Il comune proprietario ha terminato la riproduzione.",
  TOO_MANY_PLAYBACKS: "Troppe riproduzioni aperte: chiudine una.",
  INTERNAL: "Guasto dell’hub: avvisa l’amministratore.",
  NOT_FOUND: "Non trovato.",
};

// A sentence for an operator; the hub's own when there is no Italian for it.
export function sentence(problem) {
  const text = SENTENCES[problem.code] || problem.sentence || problem.message || problem.code;
  const clause = problem.clause ? ` (clausola ${problem.clause})` : "";
  return text + clause;
}

// Why nothing was recorded.
const CAUSES = {
  unreachable: "telecamera non raggiungibile",
  authentication_refused: "la telecamera ha rifiutato nome utente o password",
  unsupported_codec: "la telecamera inviava un formato non registrabile",
  no_bytes: "la telecamera era collegata ma non inviava nulla",
  disk_full: "disco dell’apparato pieno",
  disk_error: "guasto del disco dell’apparato",
  edge_off: "apparato spento",
  no_sealing_keys: "l’apparato non aveva chiavi per sigillare",
  masked: "telecamera oscurata per atto del Comune",
  connecting: "collegamento alla telecamera in corso",
  deleted: "registrazione cancellata secondo le regole di conservazione",
  not_reported: "l’apparato non ha ancora comunicato il motivo",
  not_named: "il comune proprietario non indica il motivo",
};

export function gapSentence(gap) {
  return CAUSES[gap.cause] || "motivo non indicato";
}
